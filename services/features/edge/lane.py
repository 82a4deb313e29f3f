"""The lane: records in, rows on the edges of their entities out, and off again once the tiles hold them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.adapters.logs import logger
from flywheel.contracts.events import Event
from flywheel.contracts.metrics import EDGE_ABSORBED, EDGE_EVENTS, EDGE_LARGEST, EDGE_LATE, EDGE_UNPARSABLE
from flywheel.kernel.durations import parse_duration
from flywheel.kernel.edge import EDGE_LIMIT, unpack_edge
from flywheel.kernel.envelopes import Opened, open_envelope
from flywheel.kernel.erasure import Erasures, named_in
from flywheel.kernel.plan import FeaturePlan, TileView
from flywheel.kernel.ports import ErasureLog, FeatureWriter, Record, StateWrite, ViewKey
from flywheel.kernel.rows import MARK, Cells, event_hash, rows_of
from flywheel.kernel.state import Change, EntityState, ForeignState, apply, mark_of, partition_of
from services.features.positions import events_by_topic

_TRIMS_AT_ONCE = 500

_log = logger(__name__)


@dataclass(frozen=True)
class _Arrived:
    """One event of a record."""

    fields: Mapping[str, Any]
    time_us: int
    tie: int
    mark: int


class EdgeLane:
    """Puts events on the edges. Records that come again, after a crash at whatever point, change nothing."""

    def __init__(self, plan: FeaturePlan, writer: FeatureWriter, erasures: ErasureLog) -> None:
        self._plan = plan
        self._writer = writer
        self._erasures = erasures
        self._erased: Erasures | None = None
        self._named = {event: named_in(plan.usecase, event) for event in plan.events}
        self._views = {view.name: view for view in plan.views}
        self._events = events_by_topic(plan)
        self._absorbed: Mapping[int, int] = {}
        self._waiting: dict[ViewKey, dict[int, int]] = {}
        """By edge, the last mark of each partition on it."""
        self._read: dict[int, int] = {}
        """By partition, the mark up to which every event is on an edge or in a state."""
        self._newest_us: dict[int, int] = {}
        """By partition, the newest event time read, by this lane or another."""
        self._moved: set[int] = set()
        """Partitions of which something was read since `take_passed_us`."""
        self._lateness_us = parse_duration(plan.usecase.lateness)
        self._usecase = plan.usecase.name

    @property
    def newest_us(self) -> int | None:
        """The newest time of an event read since it began; None before the first."""
        return max(self._newest_us.values(), default=None)

    def newest_of(self, place: tuple[str, int]) -> int | None:
        """The newest event time read of that topic's partition since it began; None before the first."""
        return self._newest_us.get(self._numbered(place))

    def hear(self, newest_us: Mapping[tuple[str, int], int]) -> None:
        """The newest event times that other lanes have read in their partitions."""
        for place, time_us in newest_us.items():
            partition = self._numbered(place)
            if time_us > self._newest_us.get(partition, 0):
                self._newest_us[partition] = time_us
                self._moved.add(partition)

    def _numbered(self, place: tuple[str, int]) -> int:
        return self._plan.partition(self._events[place[0]].event_name, place[1])

    def begin(self, marks: Mapping[int, int]) -> None:
        """Records come from these positions on; whatever is before is in the states."""
        self._read = dict(marks)
        self._newest_us, self._moved = {}, set()

    def take(self, records: Sequence[Record]) -> None:
        """Makes the records' events visible. Raises Unavailable; taken again, they are visible once."""
        arrived, newest_us = self._in_time(self._parsed(records))
        read = dict(self._read)
        for record in records:
            partition = self._numbered((record.topic, record.partition))
            read[partition] = max(read.get(partition, 0), mark_of(partition, record.offset + 1))
        for view in self._plan.views:
            rows = self._rows(view, arrived)
            if rows:
                packed = {key: b"".join(part.tobytes() for part in parts) for key, parts in rows.items()}
                held = self._writer.append(packed, self._absorbed)
                for key, parts in rows.items():
                    self._note(key, parts)
                self._relieve((key for key, number in held.items() if number > EDGE_LIMIT), read)
                EDGE_LARGEST.labels(self._usecase, view.name).set(max(held.values()))
        # Only what was written counts as read: after a failure the same records come again, and are not late by then.
        self._read, self._newest_us = read, newest_us
        self._moved |= {partition_of(one.mark) for events in arrived.values() for one in events}
        EDGE_EVENTS.labels(self._usecase).inc(sum(len(found) for found in arrived.values()))

    def tidy(self, marks: Mapping[int, int]) -> None:
        """Takes off the edges what the tiles hold, which is all below `marks`, and learns who was erased.

        Raises Unavailable.
        """
        self._erased = self._erasures.current()
        if marks == self._absorbed:
            return
        self._absorbed = marks
        done = [key for key, last in self._waiting.items() if all(m < marks.get(p, 0) for p, m in last.items())]
        for at in range(0, len(done), _TRIMS_AT_ONCE):
            some = done[at : at + _TRIMS_AT_ONCE]
            left = set(self._writer.trim(some, marks))
            for key in some:
                if key not in left:
                    del self._waiting[key]

    def take_passed_us(self) -> int | None:
        """The event time before which nothing counts any more in the partitions that were read since this was called
        last: one that has fallen silent holds nobody back. None when there was none."""
        moved, self._moved = self._moved, set()
        return min(self._newest_us[partition] for partition in moved) - self._lateness_us if moved else None

    def sweep(self, keys: Sequence[ViewKey]) -> None:
        """Sees to the edges of these entities, whoever wrote on them: what an earlier process left behind would stay
        until the entity's next event, which may never come. Raises Unavailable."""
        for key in self._writer.trim(keys, self._absorbed):
            # Of marks that are not known the next trim finds out whether they are absorbed.
            self._waiting.setdefault(key, {})

    def _parsed(self, records: Sequence[Record]) -> dict[type[Event], list[_Arrived]]:
        found: dict[type[Event], list[_Arrived]] = defaultdict(list)
        for record in records:
            event = self._events[record.topic]
            opened = open_envelope(event, record.value)
            if opened is None:
                # The stream counts it too, and keeps it.
                EDGE_UNPARSABLE.labels(self._usecase).inc()
                continue
            if self._is_erased(event, opened):
                continue
            tie = event_hash(event.event_name, opened.fields["event_id"])
            partition = self._plan.partition(event.event_name, record.partition)
            found[event].append(_Arrived(opened.fields, opened.time_us, tie, mark_of(partition, record.offset)))
        return found

    def _in_time(
        self, arrived: Mapping[type[Event], list[_Arrived]]
    ) -> tuple[dict[type[Event], list[_Arrived]], dict[int, int]]:
        """The events without those later than the declared lateness, which the stream will not count either; and by
        partition the newest event time with them."""
        newest_us = dict(self._newest_us)
        found: dict[type[Event], list[_Arrived]] = defaultdict(list)
        late = 0
        for event, events in arrived.items():
            for one in events:
                partition = partition_of(one.mark)
                # Behind its own partition as it was before: a backlog is read from one partition after the other.
                if one.time_us < self._newest_us.get(partition, one.time_us) - self._lateness_us:
                    late += 1
                else:
                    found[event].append(one)
                newest_us[partition] = max(newest_us.get(partition, 0), one.time_us)
        EDGE_LATE.labels(self._usecase).inc(late)
        return found, newest_us

    def _is_erased(self, event: type[Event], opened: Opened) -> bool:
        if self._erased is None:
            self._erased = self._erasures.current()
        if not self._erased:
            return False
        return self._erased.covers_event(self._named[event], opened.fields, opened.arrived_us)

    def _rows(
        self, view: TileView, arrived: Mapping[type[Event], list[_Arrived]]
    ) -> dict[ViewKey, list[NDArray[np.int64]]]:
        """Rows by entity, those of one partition in the order of their offsets."""
        found: dict[ViewKey, list[NDArray[np.int64]]] = defaultdict(list)
        for event in view.events:
            events = arrived.get(event)
            if not events:
                continue
            columns: dict[str, NDArray[Any]] = {}
            for name in view.fields_of(event):
                columns[name] = np.empty(len(events), object)
                columns[name][:] = [one.fields.get(name) for one in events]
            fixed = np.array([(one.time_us, one.tie, one.mark) for one in events], np.int64)
            ids, rows = rows_of(view, event, columns, *fixed.T)
            for entity_id, row in zip(ids, rows, strict=True):
                found[ViewKey(view.name, entity_id)].append(row)
        return found

    def _note(self, key: ViewKey, rows: Sequence[NDArray[np.int64]]) -> None:
        last = self._waiting.setdefault(key, {})
        for row in rows:
            mark = int(row[MARK])
            partition = partition_of(mark)
            last[partition] = max(last.get(partition, 0), mark)

    def _relieve(self, keys: Iterable[ViewKey], read: Mapping[int, int]) -> None:
        """Edges that have grown too long are taken into the states without waiting for the stream."""
        for key in keys:
            while not self._absorb(key, read):
                pass

    def _absorb(self, key: ViewKey, read: Mapping[int, int]) -> bool:
        """Takes the older half of an edge into the state; False when another writer was faster."""
        view = self._views[key.view]
        (stored,) = self._writer.read([key])
        try:
            rows = unpack_edge(view, stored.edge or b"")
            state = EntityState.empty(view) if stored.state is None else EntityState.unpack(view, stored.state)
        except ForeignState as error:
            _log.error("edge_not_absorbed", view=view.name, reason=str(error))
            return True
        if self._is_set_back():
            return True
        older, reached = _older_half(rows, read)
        (after,), (fresh,) = apply(view, [state], [Change(older, reached)])
        counted = self._plan.counted(view, partition_of(fresh[:, MARK]))
        write = StateWrite(after.pack(view), after.newest_us, StateWrite.ending_of(stored.state), counted)
        if self._writer.write({key: write}):
            return False
        self._writer.trim([key], reached)
        EDGE_ABSORBED.labels(self._usecase, view.name).inc(len(older))
        return True

    def _is_set_back(self) -> bool:
        """Whether the tiles hold less than the edges were cleared of: the store was lost, or is being filled again.

        The state was read before this is asked and is written only if it is still the same, so what is filled in later
        is never said to hold what is missing between it and the edge.
        """
        marks = self._writer.absorbed()
        return any(marks.get(partition, 0) < mark for partition, mark in self._absorbed.items())


def _older_half(rows: Cells, read: Mapping[int, int]) -> tuple[Cells, dict[int, int]]:
    """Of each partition the older half of the rows, and the mark past its last.

    A state promises that it holds everything below its marks, so only rows count before which nothing is missing: an
    edge may still hold rows beyond a position to which the lane was set back.
    """
    parts, reached = [rows[:0]], {}
    partitions = partition_of(rows[:, MARK])
    for partition in np.unique(partitions).tolist():
        mine = rows[(partitions == partition) & (rows[:, MARK] < read.get(partition, 0))]
        mine = mine[np.argsort(mine[:, MARK])][: (len(mine) + 1) // 2]
        if len(mine):
            parts.append(mine)
            reached[partition] = int(mine[-1, MARK]) + 1
    return np.concatenate(parts), reached
