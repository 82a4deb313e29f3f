"""Plain stored features: the views that are declared, what is asked for, and what comes back.

A value is as old as its view's event time. Past the view's time to live it is a value no more: its reader gets the
default and the status `STALE`, never a silent old number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.stored_values import ScalarType


class KeyType(Enum):
    """Types of join keys; each is laid out differently in the store."""

    STRING = "string"
    INT64 = "int64"
    INT32 = "int32"

    @property
    def python(self) -> type:
        """What a request gives keys of this type as."""
        return str if self is KeyType.STRING else int


@dataclass(frozen=True)
class JoinKey:
    """What identifies an entity, or a part of it."""

    name: str
    type: KeyType = KeyType.STRING


@dataclass(frozen=True)
class StoredFeature:
    """A number under a view; `default` stands wherever there is no value to be had."""

    name: str
    type: ScalarType = ScalarType.DOUBLE
    default: float = math.nan


@dataclass(frozen=True)
class StoredView:
    """Features that are written together, of entities identified by `join_keys`; ValueError for a wrong declaration."""

    name: str
    join_keys: tuple[JoinKey, ...]
    features: tuple[StoredFeature, ...]
    ttl_us: int | None = None
    """None for values that do not expire."""

    def __post_init__(self) -> None:
        for what, names in (
            ("join key", [key.name for key in self.join_keys]),
            ("feature", [feature.name for feature in self.features]),
        ):
            if not names:
                raise ValueError(f"view {self.name} has no {what}")
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"view {self.name} has {what} {', '.join(twice)} twice")
        for feature in self.features:
            if not isinstance(feature.type, ScalarType):
                raise ValueError(f"{self.name}:{feature.name} is no number: {feature.type!r}")
        if self.ttl_us is not None and self.ttl_us <= 0:
            raise ValueError(f"view {self.name} has a time to live of {self.ttl_us} us; None means that it has none")


class StoredStatus(IntEnum):
    """What one row of one view is worth."""

    FRESH = 0
    STALE = 1
    """Older than the view's time to live."""
    MISSING = 2
    """Nothing is stored."""
    REFUSED = 3
    """What is stored is corrupt, or not of the declared type."""


class StoredRequest(NamedTuple):
    """What to read."""

    keys: Mapping[str, Sequence[str] | Sequence[int]]
    """By join key, one value a row. A single value stands for all rows, and is read once."""
    now_us: int | NDArray[np.int64]
    """Ages are told as of this time, one for all rows or one a row."""


class StoredColumns(NamedTuple):
    """One row for each that was asked for, in that order, duplicates included."""

    values: NDArray[np.float64]
    """Shape (rows, features), in the order of the views and their features."""
    status: NDArray[np.int8]
    """Shape (rows, views), a StoredStatus each."""
    age_ms: NDArray[np.float64]
    """Shape (rows, views): from the event time to now; NaN where missing or refused. Negative for one yet to come."""
    is_current: bool = False
    """Whether it is known that all is fresh and nothing yet to come: most often so, and then nobody need look."""

    def rows_with(self, status: StoredStatus) -> NDArray[np.int64]:
        """How many rows of each view have the status; shape (views,)."""
        rows: NDArray[np.int64] = np.sum(self.status == status, axis=0, dtype=np.int64)
        return rows


class StoredFeatureReader(Protocol):
    """The online store's plain features, as a decision sees them."""

    async def read(self, request: StoredRequest, timeout_s: float) -> StoredColumns:
        """All entities and views in one round trip.

        Raises ValueError for keys that do not fit the views, Unavailable when the store fails or is late.
        """

    async def close(self) -> None: ...
