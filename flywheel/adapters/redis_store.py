"""The online feature store on Redis, in Feast's own layout: Feast's SDK reads what is written here."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, cast

import redis
from redis.exceptions import RedisError

from flywheel.adapters import feast_layout
from flywheel.adapters.feast_key_reader import join_keys
from flywheel.adapters.feast_keys import EntityKeys
from flywheel.adapters.redis_connection import HashReads, RedisConnection, RefusedCommand, together
from flywheel.adapters.redis_scripts import (
    APPEND_EDGE,
    FORGET,
    PUBLISH_MARKS,
    PUBLISH_PROGRESS,
    TRIM_EDGES,
    WRITE_STATES,
)
from flywheel.adapters.redis_stored import StoredCommands
from flywheel.kernel.attributes import AttributeRow, AttributeTable
from flywheel.kernel.edge import edge_header
from flywheel.kernel.features import join_id, split_id
from flywheel.kernel.plan import FeaturePlan
from flywheel.kernel.ports import (
    Answer,
    Lane,
    Question,
    StateWrite,
    Stored,
    StoreProgress,
    Unavailable,
    ViewKey,
    furthest,
)
from flywheel.kernel.state import offset_of
from flywheel.kernel.stored import JoinKey
from flywheel.kernel.stored_values import ScalarType, encode_scalar

_WRITE_TIMEOUT_S = 10.0
_ROWS_AT_ONCE = 128
_EDGES_AT_ONCE = 16
"""While rows are added to an edge, or taken off some, Redis answers nobody else."""
_KEYS_AT_ONCE = 100
_MAX_US = 2**63
_UNTIL, _UPDATED, _NEWEST = "visible_until_us", "updated_us", "newest_event_us"
_PROGRESS_FIELDS = tuple(f"{lane}_{name}".encode() for lane in Lane for name in (_UNTIL, _UPDATED, _NEWEST))


class _Layout:
    """Keys and fields of one use case."""

    def __init__(self, plan: FeaturePlan) -> None:
        self.project = plan.usecase.name
        self._keys = {
            view.name: EntityKeys(self.project, [JoinKey(name) for name in view.entity.keys]) for view in plan.views
        }
        self._keyed = {view.name: view.entity.keys for view in plan.views}
        entities = {view.name: view.entity.name for view in plan.views}
        self.states = {
            view: feast_layout.value_field(view, feast_layout.state_feature(name)) for view, name in entities.items()
        }
        self.edges = {
            view: feast_layout.value_field(view, feast_layout.edge_feature(name)) for view, name in entities.items()
        }
        self._reads = {view: HashReads([self.states[view], self.edges[view]]) for view in entities}
        self.times = {view: feast_layout.time_field(view) for view in entities}
        self.headers = {view.name: edge_header(view) for view in plan.views}
        self.row_bytes = {view.name: 8 * view.row_cells for view in plan.views}
        self.lifetimes_us = {view.name: view.lifetime_us for view in plan.views}
        self.progress_key = f"{self.project}:progress"
        self.counted_key = f"{self.project}:counted"
        self.absorbed_key = f"{self.project}:absorbed"
        self.source_key = f"{self.project}:source"

    def entity(self, key: ViewKey) -> bytes:
        """The Redis key of an entity."""
        (entity,) = self._keys[key.view].encode([[value] for value in split_id(key.entity_id)])
        return entity

    def entities(self, raw: bytes) -> list[ViewKey]:
        """The rows that a Redis key holds: those of each view of that entity; none for a key of something else."""
        values = join_keys(raw, self.project) or {}
        mine = {view: keys for view, keys in self._keyed.items() if set(keys) == set(values)}
        return [ViewKey(view, join_id([values[name] for name in keys])) for view, keys in mine.items()]

    def reads(self, keys: Sequence[ViewKey]) -> list[bytes]:
        """The commands that read the states and edges under these keys."""
        return [command for key in keys for command in self._reads[key.view].of((self.entity(key),))]

    def place(self, key: ViewKey) -> tuple[bytes, bytes, bytes]:
        """Redis key and hash fields of a state and an edge."""
        return self.entity(key), self.states[key.view], self.edges[key.view]


class RedisFeatureReader:
    """Reads for decisions over a pipelined connection: whoever asks at once shares a round trip.

    Questions about many entities have a connection of their own, where replies that look alike are read as one.
    """

    def __init__(self, url: str, plan: FeaturePlan) -> None:
        self._layout = _Layout(plan)
        self._attributes = [StoredCommands(plan.usecase.name, read.plan) for read in plan.usecase.attribute_reads]
        self._connection = RedisConnection(url)
        self._long = RedisConnection(url)
        self._progress = HashReads(_PROGRESS_FIELDS).of([self._layout.progress_key.encode()] if plan.views else [])

    async def read(self, question: Question, timeout_s: float) -> Answer:
        """What is stored, and the store's progress, None when it is missing or unreadable, or there are no windows.

        Raises Unavailable when Redis fails or is late.
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
        progress = _progress(_answered(next(replies))) if self._progress else None
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
        self._layout = _Layout(plan)
        self._client = redis.Redis.from_url(
            url, socket_timeout=_WRITE_TIMEOUT_S, socket_connect_timeout=_WRITE_TIMEOUT_S
        )
        self._scripts: dict[str, Any] = {}

    def read(self, keys: Sequence[ViewKey]) -> list[Stored]:
        """What is stored under `keys`, in their order, in one round trip."""
        pipe = self._pipeline()
        for key in keys:
            pipe.execute_command("HMGET", *self._layout.place(key))
        return [_stored(values) for values in _execute(pipe)]

    def write(self, states: Mapping[ViewKey, StateWrite], counted: Mapping[str, int]) -> list[ViewKey]:
        """Replaces the states and adds to the counters in one step, unless another writer was faster.

        Then nothing is written, and the keys of the states that are others by now come back.
        """
        layout = self._layout
        arguments: list[Any] = [len(states)]
        for key, state in states.items():
            arguments += (
                layout.states[key.view],
                feast_layout.encode_value(state.state),
                layout.times[key.view],
                feast_layout.encode_time(state.newest_us),
                state.replaces,
            )
        for name, number in counted.items():
            arguments += (name, number)
        keys = [layout.counted_key, *(layout.entity(key) for key in states)]
        pipe = self._pipeline()
        self._call(pipe, WRITE_STATES, keys, arguments)
        (conflicts,) = _execute(pipe)
        written = list(states)
        return [written[place] for place in conflicts]

    def append(self, rows: Mapping[ViewKey, bytes], absorbed: Mapping[int, int]) -> dict[ViewKey, int]:
        """Adds packed rows to the edges; for each, how many rows it holds now. In one round trip."""
        layout, marks, pipe = self._layout, _offsets(absorbed), self._pipeline()
        asked = []
        for key, packed in rows.items():
            view, entity = key.view, layout.entity(key)
            fixed = (layout.edges[view], layout.states[view], layout.headers[view], layout.row_bytes[view])
            for some in _pieces(packed, _ROWS_AT_ONCE * layout.row_bytes[view]):
                self._call(pipe, APPEND_EDGE, [entity], [*fixed, some, *marks])
                asked.append(key)
        # Of a key that was asked about several times, the last answer stays.
        return dict(zip(asked, _execute(pipe), strict=True))

    def trim(self, keys: Sequence[ViewKey], absorbed: Mapping[int, int]) -> list[ViewKey]:
        """Takes rows that the tiles have absorbed off the edges; which edges hold rows yet. In one round trip."""
        layout, marks, pipe = self._layout, _offsets(absorbed), self._pipeline()
        asked = []
        for view, mine in _by_view(keys).items():
            fixed = (layout.edges[view], layout.headers[view], layout.row_bytes[view])
            for some in _batched(mine, _EDGES_AT_ONCE):
                self._call(pipe, TRIM_EDGES, [layout.entity(key) for key in some], [*fixed, *marks])
                asked.append(some)
        return [some[place] for some, places in zip(asked, _execute(pipe), strict=True) for place in places]

    def entities(self, after: int) -> tuple[list[ViewKey], int]:
        """Some entities and where to go on; an entity may come twice."""
        pipe = self._pipeline()
        pipe.scan(after, count=_KEYS_AT_ONCE)
        ((following, found),) = _execute(pipe)
        return [key for raw in found for key in self._layout.entities(raw)], int(following)

    def forget(self, keys: Sequence[ViewKey], clock_us: int) -> int:
        """How many of the states went, being of no use at that event time or later. In one round trip."""
        layout, pipe = self._layout, self._pipeline()
        for view, mine in _by_view(keys).items():
            before_s = (clock_us - layout.lifetimes_us[view]) // 1_000_000
            fields = (layout.states[view], layout.times[view], layout.edges[view])
            self._call(pipe, FORGET, [layout.entity(key) for key in mine], [*fields, before_s])
        return sum(_execute(pipe))

    def put(self, table: AttributeTable, rows: Sequence[AttributeRow]) -> None:
        """Replaces what is stored of the rows' entities in this table, in one round trip."""
        view, pipe = table.view(self._layout.project), self._pipeline()
        keys = EntityKeys(self._layout.project, view.join_keys)
        entities = keys.encode(list(zip(*(row.key for row in rows), strict=True)))
        fields = [feast_layout.value_field(view.name, feature.name) for feature in view.features]
        for entity, row in zip(entities, rows, strict=True):
            values = (encode_scalar(ScalarType.DOUBLE, value) for value in (*row.values, row.as_of_us))
            mapping = dict(zip(fields, values, strict=True))
            mapping[feast_layout.time_field(view.name)] = feast_layout.encode_time(row.as_of_us)
            pipe.hset(entity, mapping=mapping)
        _execute(pipe)

    def absorbed(self) -> dict[int, int]:
        """By partition, the mark below which the tiles of all entities hold every event."""
        pipe = self._pipeline()
        pipe.hgetall(self._layout.absorbed_key)
        (found,) = _execute(pipe)
        return {int(partition): int(mark) for partition, mark in found.items()}

    def absorb(self, marks: Mapping[int, int], source: str | None) -> bool:
        """Publishes these marks for the stream of that id; False, and nothing is published, for another's store."""
        pipe = self._pipeline()
        keys = [self._layout.source_key, self._layout.absorbed_key]
        self._call(pipe, PUBLISH_MARKS, keys, [source or "", *(number for pair in marks.items() for number in pair)])
        (published,) = _execute(pipe)
        return bool(published)

    def counters(self) -> dict[str, int]:
        """Events counted so far, by `<view>.<event>`."""
        pipe = self._pipeline()
        pipe.hgetall(self._layout.counted_key)
        (found,) = _execute(pipe)
        return {name.decode(): int(number) for name, number in found.items()}

    def report(self, lane: Lane, progress: StoreProgress) -> None:
        """Publishes how far a lane is; of a store whose marks are not known nobody can say that, so nothing happens."""
        pipe = self._pipeline()
        # What is not known is told as empty, and the store keeps what it knew.
        newest_us = "" if progress.newest_event_us is None else progress.newest_event_us
        told = {_UNTIL: progress.visible_until_us, _UPDATED: progress.updated_us, _NEWEST: newest_us}
        values = [part for name, value in told.items() for part in (f"{lane}_{name}", value)]
        self._call(pipe, PUBLISH_PROGRESS, [self._layout.absorbed_key, self._layout.progress_key], values)
        _execute(pipe)

    def claim(self, source: str) -> str:
        """The id of the stream that fills this store: `source` if it had none before, which it then keeps."""
        pipe = self._pipeline()
        pipe.set(self._layout.source_key, source, nx=True)
        pipe.get(self._layout.source_key)
        return str(_execute(pipe)[1].decode())

    def source(self) -> str | None:
        """The id of the stream that fills this store; None for an empty one."""
        pipe = self._pipeline()
        pipe.get(self._layout.source_key)
        (found,) = _execute(pipe)
        return None if found is None else found.decode()

    def hand_over(self, source: str | None) -> None:
        """The store belongs to `source` from now on; None: to whoever claims it next. Its progress is forgotten."""
        pipe = self._pipeline()
        if source is None:
            pipe.delete(self._layout.source_key)
        else:
            pipe.set(self._layout.source_key, source)
        pipe.delete(self._layout.progress_key, self._layout.absorbed_key)
        _execute(pipe)

    def recount(self, counted: Mapping[str, int]) -> None:
        """Sets the counters."""
        pipe = self._pipeline()
        pipe.delete(self._layout.counted_key)
        if counted:
            pipe.hset(self._layout.counted_key, mapping=dict(counted))
        _execute(pipe)

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def _pipeline(self) -> Any:
        # Any, because the client's own annotations forbid keys of bytes.
        return self._client.pipeline(transaction=False)

    def _call(self, pipe: Any, script: str, keys: Sequence[Any], arguments: Sequence[Any]) -> None:
        if script not in self._scripts:
            # Scripts are forgotten when Redis starts again; a pipeline loads those it needs before it runs them.
            self._scripts[script] = self._client.register_script(script)
        self._scripts[script](keys=keys, args=arguments, client=pipe)


def _execute(pipe: Any) -> list[Any]:
    try:
        return list(pipe.execute())
    except (RedisError, OSError) as error:
        raise Unavailable(f"the feature store failed: {error}") from error


def _pieces(packed: bytes, length: int) -> list[bytes]:
    """At least one."""
    return [packed[at : at + length] for at in range(0, len(packed), length)] or [b""]


def _by_view(keys: Iterable[ViewKey]) -> dict[str, list[ViewKey]]:
    found: dict[str, list[ViewKey]] = defaultdict(list)
    for key in keys:
        found[key.view].append(key)
    return found


def _batched(keys: Iterable[ViewKey], number: int) -> Iterator[list[ViewKey]]:
    left = iter(keys)
    while some := list(islice(left, number)):
        yield some


async def _both(first: Awaitable[list[Any]], others: Sequence[Awaitable[list[Any]]]) -> Sequence[list[Any]]:
    # Most often there is but one, and a task for each would cost as much as a short read takes.
    return await asyncio.gather(first, *others) if others else [await first]


def _answered(reply: Any) -> Sequence[bytes | None]:
    if isinstance(reply, RefusedCommand):
        raise Unavailable(f"the feature store refused a read: {reply}")
    return cast(Sequence[bytes | None], reply)


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
