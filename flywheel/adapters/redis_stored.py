"""Plain stored features from Redis, in Feast's layout, all of a request in one round trip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from flywheel.adapters import feast_layout
from flywheel.adapters.feast_keys import EntityKeys
from flywheel.adapters.redis_connection import Commands, Connection, HashReads, NodeAway, RefusedCommand, together
from flywheel.kernel.ports import PartlyUnavailable, Unavailable
from flywheel.kernel.stored import StoredColumns, StoredRequest
from flywheel.kernel.stored_plan import Keys, Moment, StoredPlan, StoredRow, StoredRows, ViewGroup
from flywheel.kernel.stored_table import StoredTable

_WRONG_TYPE = "WRONGTYPE"
_MANY = 48
"""From so many hashes on it pays to read replies as a table, and to keep them from those that are waited for alone."""


class StoredCommands:
    """How to ask Redis for a plan's views, and how to read its replies."""

    def __init__(self, project: str, plan: StoredPlan) -> None:
        self._plan = plan
        self._groups = [_GroupCommands(project, group) for group in plan.groups]

    def ask(self, request: StoredRequest) -> StoredQuestion:
        """The commands of one request. Raises ValueError for keys that do not fit the views."""
        rows, keys = self._plan.keys(request)
        commands: list[bytes] = []
        sizes = []
        for group, entities in zip(self._groups, keys, strict=True):
            own = group.commands(entities)
            commands += own
            sizes.append(len(own))
        return StoredQuestion(commands, rows, sizes, request.now_us)

    def columns(self, asked: StoredQuestion, replies: Iterator[Any]) -> StoredColumns:
        """The answer from the replies to the commands, which come next. Raises Unavailable where Redis refused one."""
        answers = [
            group.rows(list(islice(replies, size))) for group, size in zip(self._groups, asked.sizes, strict=True)
        ]
        return self._plan.columns(asked.rows, answers, asked.now_us)


class StoredQuestion(NamedTuple):
    """The commands of one request and what their answer is read by: rows, and how many replies each group has."""

    commands: list[bytes]
    rows: int
    sizes: list[int]
    now_us: Moment

    @property
    def is_long(self) -> bool:
        """Whether it is about many hashes with the same fields."""
        return len(self.sizes) == 1 and self.sizes[0] >= _MANY

    @property
    def together(self) -> Commands:
        """All commands, for one round trip."""
        return together(self.commands, are_alike=self.is_long)


class RedisStoredReader:
    """Reads the views of a plan; requests that wait together share a round trip.

    `on_refused` hears of each view some of whose rows are corrupt or foreign, and of how many.
    """

    def __init__(
        self,
        connection: Connection,
        project: str,
        plan: StoredPlan,
        *,
        on_refused: Callable[[str, int], None] = lambda _view, _rows: None,
    ) -> None:
        self._connection = connection
        self._plan = plan
        self._on_refused = on_refused
        self._commands = StoredCommands(project, plan)

    async def read(self, request: StoredRequest, timeout_s: float) -> StoredColumns:
        """All entities and views of the request.

        Raises ValueError for keys that do not fit the views, Unavailable when Redis fails or is late.
        """
        asked = self._commands.ask(request)
        replies = await self._connection.execute(asked.together, timeout_s)
        columns = self._commands.columns(asked, iter(replies))
        for view, refused in self._plan.refused(columns).items():
            self._on_refused(view, refused)
        return columns

    async def close(self) -> None:
        """Closes the connection."""
        await self._connection.close()


def refused(reply: Any) -> Unavailable:
    """What is to be raised where this came in a reply's place."""
    if isinstance(reply, NodeAway):
        return PartlyUnavailable(f"the feature store failed: {reply}")
    return Unavailable(f"the feature store refused to read: {reply}")


class _GroupCommands:
    """How to ask for the rows of one group."""

    def __init__(self, project: str, group: ViewGroup) -> None:
        fields = [
            feast_layout.value_field(view.name, feature.name) for view in group.views for feature in view.features
        ]
        fields += [feast_layout.time_field(view.name) for view in group.views]
        self._keys = EntityKeys(project, group.join_keys)
        self._reads = HashReads(fields)
        self._foreign = group.foreign

    def commands(self, columns: Keys) -> list[bytes]:
        """One command for each entity."""
        return self._reads.of(self._keys.encode(columns))

    def rows(self, replies: Sequence[Any]) -> StoredRows:
        """What the hashes hold. A key that holds something else than a hash is foreign; any other error raises."""
        if replies and isinstance(replies[0], StoredTable):
            return replies[0]
        if {list}.issuperset(map(type, replies)):
            return replies
        return [self._row(reply) for reply in replies]

    def _row(self, reply: Any) -> StoredRow:
        if isinstance(reply, list):
            return reply
        if isinstance(reply, RefusedCommand) and str(reply).startswith(_WRONG_TYPE):
            return self._foreign
        raise refused(reply)
