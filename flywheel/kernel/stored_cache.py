"""Rows of stored features that were read a moment ago, so that items which everybody is shown are read once for all.

A row is kept for a declared time from its load, and only while there is room. What comes out is as it would have been
read from what was stored then: its age goes on, and past its time to live it is stale. That nothing is stored is
remembered as well; a row that was stale is not, for at an earlier time it may be worth something.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.stored import StoredColumns, StoredRequest, StoredStatus
from flywheel.kernel.stored_plan import StoredPlan

_FOREVER_US = np.iinfo(np.int64).max
_FEWEST_SLOTS = 64


class Lookup(NamedTuple):
    """What the cache says to a request: the rows it has, and what is still to be read."""

    missing: StoredRequest
    """Of no row where nothing is missing."""
    places: NDArray[np.intp]
    """Where the missing rows belong."""
    found: StoredColumns
    """All rows, the missing ones without any sense."""
    keys: Sequence[Hashable]
    """Of the missing rows."""
    oldest_s: float
    """How long ago the oldest of the rows was read; 0 for none."""

    @property
    def hits(self) -> int:
        return len(self.found.values) - len(self.places)


class StoredCache:
    """Rows of up to `capacity` entities of one kind, least recently used out first. Time is handed in, in seconds."""

    def __init__(self, plan: StoredPlan, *, keep_s: float, capacity: int) -> None:
        widths = [len(view.features) for view in plan.views]
        self._view_of = np.repeat(np.arange(len(widths)), widths)
        self._defaults = np.array([feature.default for view in plan.views for feature in view.features])
        self._ttls_us = np.array([_FOREVER_US if view.ttl_us is None else view.ttl_us for view in plan.views])
        self._keep_s = keep_s
        self._capacity = capacity
        self._slots: OrderedDict[Hashable, int] = OrderedDict()
        self._rows = _Rows.empty(0, len(self._view_of), len(widths))

    def __len__(self) -> int:
        return len(self._slots)

    def look(self, request: StoredRequest, now_s: float) -> Lookup:
        """The rows that are here, as of the request's time, and a request for the others."""
        keys = _keys(request.keys)
        get = self._slots.get
        slots = np.array([get(key, -1) for key in keys], np.int64)
        here = slots >= 0
        if here.any():
            here[here] = now_s - self._rows.read_s[slots[here]] < self._keep_s
        held = np.flatnonzero(here)
        places = np.flatnonzero(~here)
        for place in held.tolist():
            self._slots.move_to_end(keys[place])
        found = StoredColumns(
            np.empty((len(keys), len(self._view_of))),
            np.empty((len(keys), len(self._ttls_us)), np.int8),
            np.empty((len(keys), len(self._ttls_us))),
        )
        oldest_s = 0.0
        if held.size:
            rows = self._rows.taken(slots[held])
            oldest_s = now_s - float(rows.read_s.min())
            _put(found, held, self._as_of(rows, _at(request.now_us, held)))
        missing = StoredRequest(_some(request.keys, len(keys), places), _at(request.now_us, places))
        return Lookup(missing, places, found, [keys[place] for place in places.tolist()], oldest_s)

    def join(self, lookup: Lookup, read: StoredColumns, now_s: float) -> StoredColumns:
        """The whole answer, from what was read of what was missing; that is kept from now on."""
        self._keep(lookup, read, now_s)
        if not lookup.hits:
            return read
        _put(lookup.found, lookup.places, read)
        return lookup.found

    def _as_of(self, rows: _Rows, now_us: int | NDArray[np.int64]) -> StoredColumns:
        ages_us = (now_us.reshape(-1, 1) if isinstance(now_us, np.ndarray) else now_us) - rows.time_us
        known = rows.status == StoredStatus.FRESH
        stale = known & (ages_us > self._ttls_us)
        status = np.where(stale, np.int8(StoredStatus.STALE), rows.status)
        values = np.where(stale[:, self._view_of], self._defaults, rows.values) if stale.any() else rows.values
        return StoredColumns(values, status, np.where(known, ages_us / 1000, np.nan))

    def _keep(self, lookup: Lookup, read: StoredColumns, now_s: float) -> None:
        # What was too old or corrupt may have been replaced by the next time.
        passing = (read.status == StoredStatus.STALE) | (read.status == StoredStatus.REFUSED)
        worth = np.flatnonzero(~passing.any(axis=1)).tolist()[: self._capacity]
        if not worth:
            return
        slots = np.array([self._slot(lookup.keys[row]) for row in worth])
        now_us = lookup.missing.now_us
        at_us = now_us.reshape(-1, 1)[worth] if isinstance(now_us, np.ndarray) else now_us
        ages_us = np.rint(np.nan_to_num(read.age_ms[worth]) * 1000).astype(np.int64)
        self._rows.put(
            slots, _Rows(read.values[worth], read.status[worth], at_us - ages_us, np.full(len(slots), now_s))
        )

    def _slot(self, key: Hashable) -> int:
        """Where the row of this key goes, in the place of the least recently used one if there is no other."""
        slot = self._slots.pop(key, None)
        if slot is None:
            slot = len(self._slots)
            if slot >= self._capacity:
                _, slot = self._slots.popitem(last=False)
            elif slot >= len(self._rows.read_s):
                self._rows = self._rows.grown(min(max(2 * slot, _FEWEST_SLOTS), self._capacity))
        self._slots[key] = slot
        return slot


class _Rows(NamedTuple):
    """Rows as they were read: whatever is no matter of the time at which they are wanted."""

    values: NDArray[np.float64]
    status: NDArray[np.int8]
    time_us: NDArray[np.int64]
    read_s: NDArray[np.float64]

    @classmethod
    def empty(cls, rows: int, features: int, views: int) -> _Rows:
        shape = (rows, views)
        return cls(np.empty((rows, features)), np.empty(shape, np.int8), np.empty(shape, np.int64), np.empty(rows))

    def taken(self, slots: NDArray[np.int64]) -> _Rows:
        return _Rows(self.values[slots], self.status[slots], self.time_us[slots], self.read_s[slots])

    def put(self, slots: NDArray[np.int64] | slice, rows: _Rows) -> None:
        self.values[slots] = rows.values
        self.status[slots] = rows.status
        self.time_us[slots] = rows.time_us
        self.read_s[slots] = rows.read_s

    def grown(self, rows: int) -> _Rows:
        more = _Rows.empty(rows, self.values.shape[1], self.status.shape[1])
        more.put(slice(len(self.read_s)), self)
        return more


def _put(into: StoredColumns, places: NDArray[np.intp], rows: StoredColumns) -> None:
    into.values[places] = rows.values
    into.status[places] = rows.status
    into.age_ms[places] = rows.age_ms


def _keys(columns: Mapping[str, Sequence[str] | Sequence[int]]) -> Sequence[Hashable]:
    """A key for each row: the value of a single join key, else a tuple."""
    if len(columns) == 1:
        (column,) = columns.values()
        return column
    rows = next((len(column) for column in columns.values() if len(column) != 1), 1)
    return list(zip(*(column if len(column) == rows else [*column] * rows for column in columns.values()), strict=True))


def _some(
    columns: Mapping[str, Sequence[str] | Sequence[int]], rows: int, places: NDArray[np.intp]
) -> dict[str, Sequence[str] | Sequence[int]]:
    """The key columns of these rows alone."""
    if len(places) == rows:
        return dict(columns)
    chosen = places.tolist()
    # A single value stands for all rows; where there is but one row, it is that row's.
    return {
        name: column if len(column) == 1 and rows > 1 else [column[place] for place in chosen]
        for name, column in columns.items()
    }


def _at(now_us: int | NDArray[np.int64], places: NDArray[np.intp]) -> int | NDArray[np.int64]:
    return now_us[places] if isinstance(now_us, np.ndarray) else now_us
