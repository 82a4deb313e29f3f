"""The online feature store on Redis, in Feast's own layout: Feast's SDK reads what is written here."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, cast

from flywheel.adapters import feast_layout
from flywheel.adapters.feast_keys import EntityKeys
from flywheel.adapters.redis_client import batched
from flywheel.adapters.redis_cluster_client import open_client
from flywheel.adapters.redis_cluster_connection import open_connection
from flywheel.adapters.redis_connection import HashReads, RefusedCommand, together
from flywheel.adapters.redis_layout import Layout
from flywheel.adapters.redis_scripts import (
    APPEND_EDGE,
    FORGET,
    PUBLISH_MARKS,
    PUBLISH_PROGRESS,
    TRIM_EDGES,
    WRITE_STATES,
)
from flywheel.adapters.redis_stored import StoredCommands, refused
from flywheel.kernel.attributes import AttributeRow, AttributeTable
from flywheel.kernel.plan import FeaturePlan
from flywheel.kernel.ports import (
    Answer,
    Lane,
    PartlyUnavailable,
    Question,
    StateWrite,
    Stored,
    StoreProgress,
    ViewKey,
    furthest,
    total_of,
)
from flywheel.kernel.state import offset_of
from flywheel.kernel.stored_values import ScalarType, encode_scalar

_ROWS_AT_ONCE = 128
_EDGES_AT_ONCE = 16
"""While rows are added to an edge, or taken off some, Redis answers nobody else."""
_KEYS_AT_ONCE = 100
_MAX_US = 2**63
_UNTIL, _UPDATED, _NEWEST = "visible_until_us", "updated_us", "newest_event_us"
_PROGRESS_FIELDS = tuple(f"{lane}_{name}".encode() for lane in Lane for name in (_UNTIL, _UPDATED, _NEWEST))


class RedisFeatureReader:
    """Reads for decisions over a pipelined connection: whoever asks at once shares a round trip.

    Questions about many entities have a connection of their own, where replies that look alike are read as one.
    """

    def __init__(self, url: str, plan: FeaturePlan) -> None:
        self._layout = Layout(url, plan)
        self._attributes = [StoredCommands(plan.usecase.name, read.plan) for read in plan.usecase.attribute_reads]
        self._connection = open_connection(url)
        self._long = open_connection(url)
        self._progress = HashReads(_PROGRESS_FIELDS).of([self._layout.progress_key.encode()] if plan.views else [])

    async def read(self, question: Question, timeout_s: float) -> Answer:
        """What is stored, and the store's progress, None when it is missing or unreadable, or there are no windows.

        Raises Unavailable when Redis fails or is late; PartlyUnavailable when only a part of the nodes does.
        """
        commands = [*self._layout.reads(question.keys), *self._progress]
        reads = self._attributes if question.attributes else ()
        asked = [read.ask(request) for read, request in zip(reads, question.attributes, strict=True)]
        for each in asked:
            if not each.is_long:
                commands += each.commands
        first = self._connection.execute(together(commands), timeout_s)
        long = [self._long.execute(each.together, timeout_s) for each in asked if each.is_long]
        found, *others = await _both(first, long)
        replies, tables = iter(found), map(iter, others)
        stored = [_stored(_answered(reply)) for reply in islice(replies, len(question.keys))]
        progress = _told(next(replies)) if self._progress else None
        columns = [
            read.columns(each, next(tables) if each.is_long else replies)
            for read, each in zip(reads, asked, strict=True)
        ]
        return Answer(stored, progress, tuple(columns))

    async def close(self) -> None:
        """Ends the connections."""
        await self._connection.close()
        await self._long.close()


class RedisFeatureWriter:
    """Writes states for the stream; every call raises Unavailable when Redis does not answer."""

    def __init__(self, url: str, plan: FeaturePlan) -> None:
        self._layout = Layout(url, plan)
        self._client = open_client(url)

    @property
    def counters_pause_s(self) -> float:
        """How long to wait between two looks at all counters."""
        return self._client.counters_pause_s

    def read(self, keys: Sequence[ViewKey]) -> list[Stored]:
        """What is stored under `keys`, in their order, in one round trip."""
        batch = self._client.batch()
        for key in keys:
            batch.add("HMGET", *self._layout.place(key))
        return [_stored(values) for values in batch.execute()]

    def write(self, states: Mapping[ViewKey, StateWrite]) -> list[ViewKey]:
        """Replaces each state that is still the one to be replaced, and adds what it counts to the counters.

        The keys of the others come back. States that may be in one call are written in one step.
        """
        layout, batch = self._layout, self._client.batch()
        entities = layout.entities_of(states)
        written = self._client.callable_together(entities)
        for some in written:
            arguments = [part for key in some for part in self._replacing(key, states[key])]
            found = [entities[key] for key in some]
            batch.call(WRITE_STATES, [self._client.counted_key(layout.project, found[0]), *found], arguments)
        return [some[place] for some, places in zip(written, batch.execute(), strict=True) for place in places]

    def _replacing(self, key: ViewKey, write: StateWrite) -> list[Any]:
        """The arguments that say what is to become of one state."""
        layout, state = self._layout, feast_layout.encode_value(write.state)
        time, number = feast_layout.encode_time(write.newest_us), len(write.counted)
        fixed = (layout.states[key.view], state, layout.times[key.view], time, write.replaces, number)
        return [*fixed, *(part for counter in write.counted.items() for part in counter)]

    def append(self, rows: Mapping[ViewKey, bytes], absorbed: Mapping[int, int]) -> dict[ViewKey, int]:
        """Adds packed rows to the edges; for each, how many rows it holds now. In one round trip."""
        layout, marks, batch = self._layout, _offsets(absorbed), self._client.batch()
        asked = []
        for key, packed in rows.items():
            view, entity = key.view, layout.entity(key)
            fixed = (layout.edges[view], layout.states[view], layout.headers[view], layout.row_bytes[view])
            for some in _pieces(packed, _ROWS_AT_ONCE * layout.row_bytes[view]):
                batch.call(APPEND_EDGE, [entity], [*fixed, some, *marks])
                asked.append(key)
        # Of a key that was asked about several times, the last answer stays.
        return dict(zip(asked, batch.execute(), strict=True))

    def trim(self, keys: Sequence[ViewKey], absorbed: Mapping[int, int]) -> list[ViewKey]:
        """Takes rows that the tiles have absorbed off the edges; which edges hold rows yet. In one round trip."""
        layout, marks, batch = self._layout, _offsets(absorbed), self._client.batch()
        asked = []
        for view, mine in _by_view(keys).items():
            fixed = (layout.edges[view], layout.headers[view], layout.row_bytes[view])
            entities = layout.entities_of(mine)
            for group in self._client.callable_together(entities):
                for some in batched(group, _EDGES_AT_ONCE):
                    batch.call(TRIM_EDGES, [entities[key] for key in some], [*fixed, *marks])
                    asked.append(some)
        return [some[place] for some, places in zip(asked, batch.execute(), strict=True) for place in places]

    def entities(self, after: int) -> tuple[list[ViewKey], int]:
        """Some entities and where to go on; an entity may come twice."""
        following, found = self._client.scan(after, _KEYS_AT_ONCE)
        return [key for raw in found for key in self._layout.keys_in(raw)], following

    def forget(self, keys: Sequence[ViewKey], clock_us: int) -> int:
        """How many of the states went, being of no use at that event time or later. In one round trip."""
        layout, batch = self._layout, self._client.batch()
        for view, mine in _by_view(keys).items():
            before_s = (clock_us - layout.lifetimes_us[view]) // 1_000_000
            fields = (layout.states[view], layout.times[view], layout.edges[view])
            entities = layout.entities_of(mine)
            for some in self._client.callable_together(entities):
                batch.call(FORGET, [entities[key] for key in some], [*fields, before_s])
        return sum(batch.execute())

    def put(self, table: AttributeTable, rows: Sequence[AttributeRow]) -> None:
        """Replaces what is stored of the rows' entities in this table, in one round trip."""
        view, batch = table.view(self._layout.project), self._client.batch()
        keys = EntityKeys(self._layout.project, view.join_keys)
        entities = keys.encode(list(zip(*(row.key for row in rows), strict=True)))
        fields = [feast_layout.value_field(view.name, feature.name) for feature in view.features]
        for entity, row in zip(entities, rows, strict=True):
            values = (encode_scalar(ScalarType.DOUBLE, value) for value in (*row.values, row.as_of_us))
            pairs = [part for pair in zip(fields, values, strict=True) for part in pair]
            time = (feast_layout.time_field(view.name), feast_layout.encode_time(row.as_of_us))
            batch.add("HSET", entity, *pairs, *time)
        batch.execute()

    def absorbed(self) -> dict[int, int]:
        """By partition, the mark below which the tiles of all entities hold every event."""
        batch = self._client.batch()
        batch.add("HGETALL", self._layout.absorbed_key)
        (found,) = batch.execute()
        return {int(partition): int(mark) for partition, mark in found.items()}

    def absorb(self, marks: Mapping[int, int], source: str | None) -> bool:
        """Publishes these marks for the stream of that id; False, and nothing is published, for another's store."""
        batch = self._client.batch()
        keys = [self._layout.source_key, self._layout.absorbed_key]
        batch.call(PUBLISH_MARKS, keys, [source or "", *(number for pair in marks.items() for number in pair)])
        (published,) = batch.execute()
        return bool(published)

    def counters(self) -> dict[str, int]:
        """Events counted so far, by `<view>.<event>`."""
        return total_of(self.counters_by_place())

    def counters_by_place(self) -> dict[str, dict[str, int]]:
        """The same by where it is kept: one place, or one for each slot of a cluster."""
        batch, places = self._client.batch(), self._client.counted_keys(self._layout.project)
        for key in places:
            batch.add("HGETALL", key)
        return {
            # The same few names in thousands of places.
            place: {sys.intern(name.decode()): int(number) for name, number in found.items()}
            for place, found in zip(places, batch.execute(), strict=True)
            if found
        }

    def report(self, lane: Lane, progress: StoreProgress) -> None:
        """Publishes how far a lane is; of a store whose marks are not known nobody can say that, so nothing happens."""
        batch = self._client.batch()
        # What is not known is told as empty, and the store keeps what it knew.
        newest_us = "" if progress.newest_event_us is None else progress.newest_event_us
        told = {_UNTIL: progress.visible_until_us, _UPDATED: progress.updated_us, _NEWEST: newest_us}
        values = [part for name, value in told.items() for part in (f"{lane}_{name}", value)]
        batch.call(PUBLISH_PROGRESS, [self._layout.absorbed_key, self._layout.progress_key], values)
        batch.execute()

    def claim(self, source: str) -> str:
        """The id of the stream that fills this store: `source` if it had none before, which it then keeps."""
        batch = self._client.batch()
        batch.add("SET", self._layout.source_key, source, "NX")
        batch.add("GET", self._layout.source_key)
        return str(batch.execute()[1].decode())

    def source(self) -> str | None:
        """The id of the stream that fills this store; None for an empty one."""
        batch = self._client.batch()
        batch.add("GET", self._layout.source_key)
        (found,) = batch.execute()
        return None if found is None else found.decode()

    def hand_over(self, source: str | None) -> None:
        """The store belongs to `source` from now on; None: to whoever claims it next. Its progress is forgotten."""
        batch = self._client.batch()
        if source is None:
            batch.add("DEL", self._layout.source_key)
        else:
            batch.add("SET", self._layout.source_key, source)
        batch.add("DEL", self._layout.progress_key, self._layout.absorbed_key)
        batch.execute()

    def recount(self, counted: Mapping[str, int]) -> None:
        """Sets the counters."""
        batch = self._client.batch()
        first, *others = self._client.counted_keys(self._layout.project)
        for key in (first, *others):
            batch.add("DEL", key)
        if counted:
            batch.add("HSET", first, *(part for pair in counted.items() for part in pair))
        batch.execute()

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()


def _pieces(packed: bytes, length: int) -> list[bytes]:
    """At least one."""
    return [packed[at : at + length] for at in range(0, len(packed), length)] or [b""]


def _by_view(keys: Iterable[ViewKey]) -> dict[str, list[ViewKey]]:
    found: dict[str, list[ViewKey]] = defaultdict(list)
    for key in keys:
        found[key.view].append(key)
    return found


async def _both(first: Awaitable[list[Any]], others: Sequence[Awaitable[list[Any]]]) -> Sequence[list[Any]]:
    # Most often there is but one, and a task for each would cost as much as a short read takes.
    return await asyncio.gather(first, *others) if others else [await first]


def _answered(reply: Any) -> Sequence[bytes | None]:
    if isinstance(reply, RefusedCommand):
        raise refused(reply)
    return cast(Sequence[bytes | None], reply)


def _told(reply: Any) -> StoreProgress | None:
    """The progress; unknown where the node of a cluster that keeps it is away."""
    try:
        return _progress(_answered(reply))
    except PartlyUnavailable:
        return None


def _stored(values: Sequence[bytes | None]) -> Stored:
    state, edge = (None if value is None else feast_layout.decode_value(value) for value in values)
    return Stored(state, edge)


def _offsets(marks: Mapping[int, int]) -> list[int]:
    """Partitions and offsets, in turn."""
    return [number for partition, mark in marks.items() for number in (partition, offset_of(mark))]


def _progress(values: Sequence[bytes | None]) -> StoreProgress | None:
    """Of the lane that is further; the stream's present is the newest that any lane has seen."""
    numbers = [_microseconds(value) for value in values]
    lanes = [
        StoreProgress(until_us, updated_us, newest_us)
        for until_us, updated_us, newest_us in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
        if until_us is not None and updated_us is not None
    ]
    return furthest(lanes)


def _microseconds(value: bytes | None) -> int | None:
    try:
        found = None if value is None else int(value)
    except ValueError:
        return None
    return found if found is not None and abs(found) < _MAX_US else None
