"""The feature vector of a decision: what was read and request fields in, the model's row out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.events import Event
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.features import AttributeFeature, Column, RequestFeature, WindowedFeature
from flywheel.kernel.fields import REQUEST, REQUEST_TIME, numeric_fields
from flywheel.kernel.stored_plan import as_index


def request_numbers(event: Event) -> dict[str, float]:
    """The numeric fields of a request by name, and `event_time_us`."""
    numbers = {name: float(getattr(event, name)) for _, name in _numeric_columns(type(event))}
    numbers[REQUEST_TIME.removeprefix(REQUEST)] = float(event.event_time_us)
    return numbers


def request_columns(event: Event) -> dict[str, float]:
    """The numeric fields of a request as `request.<field>`, its time as `request.event_time_us`."""
    return {REQUEST + name: value for name, value in request_numbers(event).items()}


@cache
def _numeric_columns(event: type[Event]) -> tuple[tuple[str, str], ...]:
    """Column and field; a decision must not look through the fields again."""
    return tuple((REQUEST + name, name) for name in numeric_fields(event))


def assemble(usecase: UseCase, columns: Mapping[str, Column]) -> NDArray[np.float32]:
    """Rows of the model's input, shape (n, features), float32, columns in the declared order.

    `columns` holds windowed features by name and the request's fields as `request.<field>`, each shape (n,), float64.
    Training and serving both come through here, so that a feature computed at the request means the same in both.
    """
    known = complete(usecase, columns)
    return np.column_stack([known[name] for name in usecase.feature_names]).astype(np.float32)


def complete(usecase: UseCase, columns: Mapping[str, Column]) -> dict[str, Column]:
    """The columns and, beside them, every feature computed at the request; shape (n,), float64."""
    known: dict[str, Column] = dict(columns)
    for feature in usecase.features:
        if isinstance(feature, RequestFeature):
            known[feature.name] = feature.compute(known)
    return known


class Asked(Protocol):
    """A request event with its rows; they differ by a candidate in one field, where there are several."""

    event: Event
    at_us: int
    candidates: Sequence[str]


class RowLayout:
    """Where everything stands in the rows of a use case; made once, because a decision has no time to plan.

    `sources` are what features are read from: entities with windows, then tables of attributes.
    """

    def __init__(self, usecase: UseCase, candidate: str = "") -> None:
        self.names = usecase.feature_names
        places = {name: place for place, name in enumerate(self.names)}
        windowed: dict[str, list[int]] = {entity.name: [] for entity in usecase.entities}
        for feature in usecase.windowed:
            windowed[feature.entity.name].append(places[feature.name])
        self.windows = [as_index(found) for found in windowed.values() if found]
        """Places of each view's features, in the order of the plan's views."""
        self.tables = tuple(table.name for table in usecase.attribute_tables)
        self.table_places = {name: place for place, name in enumerate(self.tables)}
        self.attributes = {
            table.name: as_index([places[feature.name] for feature in table.features])
            for table in usecase.attribute_tables
        }
        self.sources = (*(name for name, found in windowed.items() if found), *self.tables)
        self.needs = _needs(usecase, self.sources)
        """Which features stand on which sources, shape (features, sources)."""
        self._read_from = self.needs & np.array([[not isinstance(f, RequestFeature)] for f in usecase.features])
        self._defaults = np.array([_default(feature) for feature in usecase.features])
        self._computed = [(places[f.name], f.compute) for f in usecase.at_request]
        self._columns = {name: place for place, name in enumerate(self.names)}
        self._fields = {REQUEST + name: name for name in (*numeric_fields(usecase.request), "event_time_us")}
        self._candidate = candidate

    def blank(self, rows: int) -> NDArray[np.floating[Any]]:
        """Where the values of so many rows go, shape (rows, features), undefined as yet."""
        if not self._computed:
            return np.empty((rows, len(self.names)), np.float32)
        # A column a feature in one piece: what is computed of a column must not depend on how many rows there are.
        return np.empty((len(self.names), rows)).T

    def put_defaults(self, values: NDArray[np.floating[Any]], gone: NDArray[np.bool_]) -> None:
        """Gives what is read from these sources its declared defaults; shapes (rows, features), (rows, sources)."""
        np.copyto(values, self._defaults, casting="same_kind", where=gone @ self._read_from.T)

    def finished(self, values: NDArray[np.floating[Any]], subjects: Sequence[Asked]) -> NDArray[np.float32]:
        """The model's rows, once what is computed at the request is put into the values; shape (rows, features)."""
        if self._computed:
            known = _Columns(values, self._columns, self._fields, subjects, self._candidate)
            for place, compute in self._computed:
                values[:, place] = compute(known)
        return values.astype(np.float32, order="C", copy=False)


class _Columns(Mapping[str, Column]):
    """Columns by name, each made when it is looked at."""

    def __init__(
        self,
        values: NDArray[Any],
        places: Mapping[str, int],
        fields: Mapping[str, str],
        subjects: Sequence[Asked],
        candidate: str,
    ) -> None:
        self._values = values
        self._places = places
        self._fields = fields
        self._subjects = subjects
        self._candidate = candidate

    def __getitem__(self, name: str) -> Column:
        place = self._places.get(name)
        return self._request(self._fields[name]) if place is None else self._values[:, place]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._places, *self._fields))

    def __len__(self) -> int:
        return len(self._places) + len(self._fields)

    def _request(self, field: str) -> Column:
        subjects = self._subjects
        if field == self._candidate:
            own = [[float(each) for each in s.candidates or (getattr(s.event, field),)] for s in subjects]
            return np.array([value for some in own for value in some])
        column = np.array([float(s.at_us if field == "event_time_us" else getattr(s.event, field)) for s in subjects])
        if len(column) == len(self._values):
            return column
        return np.repeat(column, [len(subject.candidates) or 1 for subject in subjects])


def _default(feature: WindowedFeature | AttributeFeature | RequestFeature) -> float:
    if isinstance(feature, WindowedFeature):
        return feature.undefined
    return feature.default if isinstance(feature, AttributeFeature) else np.nan


def _needs(usecase: UseCase, sources: Sequence[str]) -> NDArray[np.bool_]:
    found: dict[str, NDArray[np.bool_]] = {}
    for feature in usecase.features:
        row = np.zeros(len(sources), np.bool_)
        if isinstance(feature, RequestFeature):
            for name in feature.inputs:
                row |= found.get(name, False)
        else:
            row[sources.index(feature.table if isinstance(feature, AttributeFeature) else feature.entity.name)] = True
        found[feature.name] = row
    return np.array(list(found.values()))
