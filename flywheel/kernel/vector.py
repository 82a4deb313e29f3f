"""The feature vector of a decision: windowed values and request fields in, the model's row out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.events import Event
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.features import Column, RequestFeature
from flywheel.kernel.fields import REQUEST, REQUEST_TIME, numeric_fields


def request_columns(event: Event) -> dict[str, float]:
    """The numeric fields of a request as `request.<field>`, its time as `request.event_time_us`."""
    columns = {column: float(getattr(event, name)) for column, name in _numeric_columns(type(event))}
    columns[REQUEST_TIME] = float(event.event_time_us)
    return columns


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
