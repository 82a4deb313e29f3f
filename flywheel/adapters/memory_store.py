"""The online feature store in memory: the twin of `redis_store` for tests and for trying things out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from flywheel.adapters.memory_stored import MemoryStoredFeatures
from flywheel.kernel.attributes import AttributeRow, AttributeTable
from flywheel.kernel.edge import HEADER, edge_header
from flywheel.kernel.plan import FeaturePlan, TileView
from flywheel.kernel.ports import Answer, Lane, Question, StateWrite, Stored, StoreProgress, ViewKey, furthest
from flywheel.kernel.rows import MARK, TIE, Cells
from flywheel.kernel.state import partition_of

_KEYS_AT_ONCE = 3
"""Few, so that a walk has several steps even in a small test."""


class MemoryFeatureStore:
    """A writer; `reader()` gives the decision's side of the same store."""

    counters_pause_s = 0.0

    def __init__(self, plan: FeaturePlan) -> None:
        self.states: dict[ViewKey, bytes] = {}
        self.edges: dict[ViewKey, bytes] = {}
        self.progress: dict[Lane, StoreProgress] = {}
        self._views = {view.name: view for view in plan.views}
        self._newest_us: dict[ViewKey, int] = {}
        self._known: dict[ViewKey, None] = {}
        self._absorbed: dict[int, int] = {}
        self._counted: Counter[str] = Counter()
        self._source: str | None = None
        self._usecase = plan.usecase
        self.attributes = {read.entity: MemoryStoredFeatures(read.plan) for read in plan.usecase.attribute_reads}

    def reader(self) -> MemoryFeatureReader:
        """The same store as a decision sees it."""
        return MemoryFeatureReader(self)

    def read(self, keys: Sequence[ViewKey]) -> list[Stored]:
        """What is stored under `keys`, in their order."""
        return [Stored(self.states.get(key), self.edges.get(key)) for key in keys]

    def write(self, states: Mapping[ViewKey, StateWrite]) -> list[ViewKey]:
        """Replaces the states and adds what they count; the keys of those that are others by now come back."""
        conflicts = [
            key for key, state in states.items() if StateWrite.ending_of(self.states.get(key)) != state.replaces
        ]
        for key, state in states.items():
            if key not in conflicts:
                self.states[key], self._newest_us[key] = state.state, state.newest_us
                self._counted.update(state.counted)
        return conflicts

    def append(self, rows: Mapping[ViewKey, bytes], absorbed: Mapping[int, int]) -> dict[ViewKey, int]:
        """Adds packed rows to the edges; for each, how many rows it holds now."""
        return {key: self._append(key, packed, absorbed) for key, packed in rows.items()}

    def trim(self, keys: Sequence[ViewKey], absorbed: Mapping[int, int]) -> list[ViewKey]:
        """Takes rows that the tiles have absorbed off the edges; which edges hold rows yet."""
        waiting = []
        for key in keys:
            view = self._views[key.view]
            rows = _trimmed(self._rows(view, self.edges.pop(key, b"")), absorbed)
            if len(rows):
                self.edges[key] = edge_header(view) + rows.tobytes()
                waiting.append(key)
        return waiting

    def entities(self, after: int) -> tuple[list[ViewKey], int]:
        """Some entities and where to go on."""
        # As many more as come meanwhile are at the end: nothing that was there is passed over.
        self._known |= dict.fromkeys([*self.states, *self.edges])
        found = list(self._known)[after : after + _KEYS_AT_ONCE]
        end = after + len(found)
        return found, 0 if end == len(self._known) else end

    def forget(self, keys: Sequence[ViewKey], clock_us: int) -> int:
        """How many of the states went, being of no use at that event time or later."""
        useless = [
            key
            for key in keys
            if key in self._newest_us
            and key not in self.edges
            and self._newest_us[key] // 1_000_000 < (clock_us - self._views[key.view].lifetime_us) // 1_000_000
        ]
        for key in useless:
            del self.states[key]
            del self._newest_us[key]
        return len(useless)

    def put(self, table: AttributeTable, rows: Sequence[AttributeRow]) -> None:
        """Replaces what is stored of the rows' entities in this table."""
        view, names = table.view(self._usecase.name), table.entity.keys
        for row in rows:
            values = dict(zip((feature.name for feature in view.features), (*row.values, row.as_of_us), strict=True))
            self.attributes[table.entity].write(view, dict(zip(names, row.key, strict=True)), values, row.as_of_us)

    def absorbed(self) -> dict[int, int]:
        """By partition, the mark below which the tiles of all entities hold every event."""
        return dict(self._absorbed)

    def absorb(self, marks: Mapping[int, int], source: str | None) -> bool:
        """Publishes these marks for the stream of that id; False, and nothing is published, for another's store."""
        if source == self._source:
            self._absorbed.update(marks)
        return source == self._source

    def counters(self) -> dict[str, int]:
        """Events counted so far, by `<view>.<event>`."""
        return dict(self._counted)

    def counters_by_place(self) -> dict[str, dict[str, int]]:
        """One place."""
        return {"memory": self.counters()}

    def report(self, lane: Lane, progress: StoreProgress) -> None:
        """Publishes how far a lane is; of a store whose marks are not known nobody can say that, so nothing happens."""
        if self._absorbed:
            before = self.progress.get(lane)
            seen_us = [each.newest_event_us for each in (before, progress) if each and each.newest_event_us is not None]
            self.progress[lane] = replace(progress, newest_event_us=max(seen_us, default=None))

    def claim(self, source: str) -> str:
        """The id of the stream that fills this store: `source` if it had none before, which it then keeps."""
        if self._source is None:
            self._source = source
        return self._source

    def source(self) -> str | None:
        """The id of the stream that fills this store; None for an empty one."""
        return self._source

    def hand_over(self, source: str | None) -> None:
        """The store belongs to `source` from now on; None: to whoever claims it next. Its progress is forgotten."""
        self._source = source
        self.progress.clear()
        self._absorbed.clear()

    def recount(self, counted: Mapping[str, int]) -> None:
        """Sets the counters."""
        self._counted = Counter(counted)

    def _append(self, key: ViewKey, packed: bytes, absorbed: Mapping[int, int]) -> int:
        view, state = self._views[key.view], self.states.get(key, b"")
        words = np.frombuffer(state, "<i8", len(state) // 8)
        rows = _trimmed(self._rows(view, self.edges.get(key, b"")), absorbed)
        for row in np.frombuffer(packed, "<i8").reshape(-1, view.row_cells):
            if row[TIE] not in rows[:, TIE] and row[TIE] not in words:
                rows = np.concatenate([rows, row[None]])
        self.edges[key] = edge_header(view) + rows.tobytes()
        return len(rows)

    def _rows(self, view: TileView, held: bytes) -> Cells:
        usable = held[HEADER.size :] if held.startswith(edge_header(view)) else b""
        return np.frombuffer(usable, "<i8").reshape(-1, view.row_cells)


def _trimmed(rows: Cells, absorbed: Mapping[int, int]) -> Cells:
    """The rows from the first one on that is not absorbed."""
    marks = rows[:, MARK]
    reached = np.array([absorbed.get(partition, 0) for partition in partition_of(marks).tolist()], np.int64)
    waiting = np.flatnonzero(marks >= reached)
    return rows[waiting[0] :] if len(waiting) else rows[:0]


class MemoryFeatureReader:
    """Reads what the store holds at that moment."""

    def __init__(self, store: MemoryFeatureStore) -> None:
        self._store = store

    async def read(self, question: Question, timeout_s: float) -> Answer:
        """What is stored, and the progress of the lane that is further."""
        progress = furthest(self._store.progress.values())
        tables = zip(self._store.attributes.values(), question.attributes, strict=True) if question.attributes else ()
        columns = [await table.read(request, timeout_s) for table, request in tables]
        return Answer(self._store.read(question.keys), progress, columns)

    async def close(self) -> None:
        """Nothing to let go of."""
