"""The read plan of stored features: which hashes to ask for what, and how to make columns of the answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, chain
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.stored import JoinKey, StoredColumns, StoredRequest, StoredStatus, StoredView
from flywheel.kernel.stored_table import StoredTable
from flywheel.kernel.stored_times import NO_TIME, decode_time, decode_time_column, decode_times
from flywheel.kernel.stored_values import FixedRow, ScalarType, decode_columns, decode_scalars

StoredRow = Sequence[bytes | None]
"""What one hash holds of a group: a message for each feature, view by view, then an event time for each view."""
StoredRows = Sequence[StoredRow] | StoredTable
Keys = Sequence[Sequence[str | int]]
"""Columns of key values, one for each of a group's join keys, all of one length."""

Moment = int | NDArray[np.int64]
"""One time for all rows, or one a row; microseconds."""

_FOREVER_US = np.iinfo(np.int64).max
_FOREIGN = b"?"


class StoredPlan:
    """Views compiled once. Those of the same join keys lie in one hash an entity, and are read by one command."""

    def __init__(self, views: Sequence[StoredView]) -> None:
        """Raises ValueError for two views of one name, or that see one join key as of different types."""
        self.views = tuple(views)
        self.features = tuple(f"{view.name}:{feature.name}" for view in self.views for feature in view.features)
        """Names of the columns."""
        _check(self.views)
        ends = list(accumulate(len(view.features) for view in self.views))
        by_keys: dict[frozenset[JoinKey], list[int]] = {}
        for place, view in enumerate(self.views):
            by_keys.setdefault(frozenset(view.join_keys), []).append(place)
        self.groups = tuple(
            ViewGroup(
                [self.views[place] for place in places],
                places,
                [at for place in places for at in range(ends[place] - len(self.views[place].features), ends[place])],
            )
            for places in by_keys.values()
        )
        self._key_types = {key.name: frozenset({key.type.python}) for view in self.views for key in view.join_keys}

    def keys(self, request: StoredRequest) -> tuple[int, list[Keys]]:
        """How many rows the answer has, and what to read for each group: one row, or as many as the answer.

        Raises ValueError for join keys that are missing, unknown, of uneven length or of a wrong type.
        """
        if request.keys.keys() != self._key_types.keys():
            raise ValueError(f"join keys are {', '.join(self._key_types)}; got {', '.join(request.keys)}")
        rows = 1
        for name, column in request.keys.items():
            wanted = self._key_types[name]
            if isinstance(column, str) or not wanted.issuperset(map(type, column)):
                (python,) = wanted
                raise ValueError(f"every {name} must be of type {python.__name__}, in a list")
            if len(column) not in (rows, 1) and rows != 1:
                raise ValueError(f"join keys have {rows}, {len(column)} values: one, or one a row")
            rows = rows if len(column) == 1 else len(column)
        return rows, [group.keys(request.keys) for group in self.groups]

    def columns(self, rows: int, answers: Sequence[StoredRows], now_us: Moment) -> StoredColumns:
        """The answer of so many rows from what each group's hashes hold."""
        if len(self.groups) == 1:
            return self.groups[0].decode(answers[0], now_us)
        decoded = [group.decode(answer, now_us) for group, answer in zip(self.groups, answers, strict=True)]
        whole = _columns(rows, len(self.features), len(self.views))
        for group, part in zip(self.groups, decoded, strict=True):
            whole.values[:, group.columns] = part.values
            whole.status[:, group.places] = part.status
            whole.age_ms[:, group.places] = part.age_ms
        return whole._replace(is_current=all(part.is_current for part in decoded))

    def refused(self, columns: StoredColumns) -> dict[str, int]:
        """By view, how many rows were refused; only views with any."""
        if not np.count_nonzero(columns.status):
            return {}
        rows = columns.rows_with(StoredStatus.REFUSED)
        return {view.name: int(number) for view, number in zip(self.views, rows, strict=True) if number}


class ViewGroup:
    """Views of the same entities."""

    def __init__(self, views: Sequence[StoredView], places: Sequence[int], columns: Sequence[int]) -> None:
        features = [feature for view in views for feature in view.features]
        self.views = tuple(views)
        self.join_keys = tuple(sorted(views[0].join_keys, key=lambda key: key.name))
        self.places = as_index(places)
        """Where the group's views stand in the answer."""
        self.columns = as_index(columns)
        """Where its features stand there."""
        self.foreign: StoredRow = (_FOREIGN,) * (len(features) + len(views))
        """A row in which nothing can be read."""
        self._width = len(features)
        self._features_of_view = [len(view.features) for view in views]
        self._first_of_view = [0, *accumulate(self._features_of_view)][:-1]
        self._pickers = [
            (kind, as_index(at), _picker(at))
            for kind in ScalarType
            if (at := [place for place, feature in enumerate(features) if feature.type is kind])
        ]
        self._pick_times = _picker(range(len(features), len(features) + len(views)))
        self._fixed = FixedRow.of([feature.type for feature in features])
        self._ttls = [_FOREVER_US if view.ttl_us is None else view.ttl_us for view in views]
        self._ttls_us = np.array(self._ttls, np.int64)
        self._fresh = np.full((1, len(views)), StoredStatus.FRESH, np.int8)
        self._fresh.setflags(write=False)
        defaults = np.array([feature.default for feature in features])
        self._defaults = None if np.isnan(defaults).all() else defaults

    def keys(self, columns: Mapping[str, Sequence[str] | Sequence[int]]) -> Keys:
        """The group's part of the keys; single values stand for all rows only where another key has more."""
        if len(self.join_keys) == 1:
            return [columns[self.join_keys[0].name]]
        own: list[Sequence[Any]] = [columns[key.name] for key in self.join_keys]
        rows = next((len(column) for column in own if len(column) != 1), 1)
        return [column if len(column) == rows else list(column) * rows for column in own]

    def decode(self, rows: StoredRows, now_us: Moment) -> StoredColumns:
        """Columns of this group alone."""
        if isinstance(rows, StoredTable):
            return self._decode_table(rows, now_us) or self._decode(rows.rows(), now_us)
        if not rows:
            return _columns(0, self._width, len(self.views))
        if len(rows) == 1:
            usual = self._decode_usual(rows[0], now_us if isinstance(now_us, int) else int(now_us[0]))
            if usual is not None:
                return usual
        return self._decode(rows, now_us)

    def _decode_usual(self, row: StoredRow, now_us: int) -> StoredColumns | None:
        """As `_decode`, for a single row that is whole, fresh and of plain floating numbers: that is, for most."""
        values = None if self._fixed is None else self._fixed.read(row[: self._width])
        if values is None:
            return None
        ages_ms, is_current = [], True
        for message, ttl_us in zip(row[self._width :], self._ttls, strict=True):
            time_us = decode_time(message)
            age_us = now_us - time_us
            if time_us == NO_TIME or age_us > ttl_us:
                return None
            ages_ms.append(age_us / 1000)
            is_current = is_current and age_us >= 0
        found = np.array([values])
        # A sum is NaN where one of its terms is: quicker to ask than each of them.
        if self._defaults is not None and math.isnan(sum(values)):
            found = np.where(np.isnan(found), self._defaults, found)
        return StoredColumns(found, self._fresh, np.array([ages_ms]), is_current)

    def _decode(self, rows: Sequence[StoredRow], now_us: Moment) -> StoredColumns:
        values, refused = self._values(rows)
        messages = list(chain.from_iterable(map(self._pick_times, rows)))
        times_us = decode_times(messages).reshape(len(rows), -1)
        now_us = _one_a_row(now_us)
        unknown = times_us == NO_TIME
        some_unknown = np.count_nonzero(unknown) > 0
        ages_us = now_us - (np.where(unknown, now_us, times_us) if some_unknown else times_us)
        status = (ages_us > self._ttls_us).view(np.int8)
        if some_unknown:
            status[unknown] = StoredStatus.MISSING
            status[unknown & self._holds_something(values, messages)] = StoredStatus.REFUSED
        if refused is not None:
            status[refused] = StoredStatus.REFUSED
        return self._judged(values, status, ages_us)

    def _decode_table(self, table: StoredTable, now_us: Moment) -> StoredColumns | None:
        """As `_decode`, where every message is of its type and every time is one: in a table, most often."""
        values = np.empty((len(table.columns[0]), self._width))
        for kind, columns, pick in self._pickers:
            numbers = decode_columns(kind, pick(table.columns))
            if numbers is None:
                return None
            values[:, columns] = numbers
        times_us = np.column_stack([decode_time_column(column) for column in self._pick_times(table.columns)])
        if np.count_nonzero(times_us == NO_TIME):
            return None
        ages_us = _one_a_row(now_us) - times_us
        return self._judged(values, (ages_us > self._ttls_us).view(np.int8), ages_us)

    def _judged(
        self, values: NDArray[np.float64], status: NDArray[np.int8], ages_us: NDArray[np.int64]
    ) -> StoredColumns:
        """The columns, with no value and no age where the status allows none."""
        ages_ms = ages_us / 1000
        if np.count_nonzero(status):
            ages_ms[status >= StoredStatus.MISSING] = np.nan
            values[np.repeat(status != StoredStatus.FRESH, self._features_of_view, axis=1)] = np.nan
            is_current = False
        else:
            is_current = bool(ages_us.min() >= 0)
        if self._defaults is not None:
            values = np.where(np.isnan(values), self._defaults, values)
        return StoredColumns(values, status, ages_ms, is_current)

    def _values(self, rows: Sequence[StoredRow]) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
        """Values of shape (rows, features), and of (rows, views) where any of a view's values is refused."""
        if len(self._pickers) == 1:
            kind, _, pick = self._pickers[0]
            numbers, unsound = decode_scalars(kind, list(chain.from_iterable(map(pick, rows))))
            shape = (len(rows), self._width)
            return numbers.reshape(shape), None if unsound is None else self._any_of_view(unsound.reshape(shape))
        values = np.empty((len(rows), self._width))
        refused = None
        for kind, columns, pick in self._pickers:
            numbers, unsound = decode_scalars(kind, list(chain.from_iterable(map(pick, rows))))
            values[:, columns] = numbers.reshape(len(rows), -1)
            if unsound is not None:
                refused = np.zeros(values.shape, np.bool_) if refused is None else refused
                refused[:, columns] = unsound.reshape(len(rows), -1)
        return values, None if refused is None else self._any_of_view(refused)

    def _holds_something(self, values: NDArray[np.float64], messages: Sequence[bytes | None]) -> NDArray[np.bool_]:
        """Where a view has a value or a message for its event time, shape (rows, views)."""
        timed = np.array([message is not None for message in messages]).reshape(len(values), -1)
        return timed | self._any_of_view(~np.isnan(values))

    def _any_of_view(self, found: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """From (rows, features) to (rows, views)."""
        return np.logical_or.reduceat(found, self._first_of_view, axis=1)


def _check(views: Sequence[StoredView]) -> None:
    names = [view.name for view in views]
    if not names:
        raise ValueError("a plan has at least one view")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"views are declared twice: {', '.join(twice)}")
    types: dict[str, JoinKey] = {}
    for key in (key for view in views for key in view.join_keys):
        if types.setdefault(key.name, key) != key:
            raise ValueError(f"join key {key.name} is both {types[key.name].type.value} and {key.type.value}")


def _one_a_row(now_us: Moment) -> Moment:
    return now_us.reshape(-1, 1) if isinstance(now_us, np.ndarray) else now_us


def _columns(rows: int, features: int, views: int) -> StoredColumns:
    return StoredColumns(np.empty((rows, features)), np.empty((rows, views), np.int8), np.empty((rows, views)))


def as_index(places: Sequence[int]) -> slice | list[int]:
    """The places as numpy takes them: a slice where they are neighbours, for it copies less."""
    first, last = places[0], places[-1]
    return slice(first, last + 1) if list(places) == list(range(first, last + 1)) else list(places)


def _picker(places: Sequence[int]) -> Callable[[Any], Sequence[Any]]:
    """What takes the messages at these places out of a row, or their columns out of a table's."""
    index = as_index(places)
    return itemgetter(index) if isinstance(index, slice) else itemgetter(*index)
