"""Features as they are declared: a statistic of events over a window of an entity, an attribute that is loaded from a
batch, or a value computed at the request.

A window `over(w)` at time `t` covers the events with `floor(t, step) - w <= event_time <= t`: its head is exact to the
event, its tail moves in steps, which for short windows are those of the clock itself. Delayed by `d` it covers
`floor(t, step) - d - w <= event_time < floor(t, step) - d`. The request's own event belongs to its windows exactly
once, whether or not it has arrived yet; statistics of what came before (`FIRST`, `LAST`, `SINCE_LAST`) leave it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.events import Event
from flywheel.kernel.conditions import Condition
from flywheel.kernel.durations import DAY_US, HOUR_US, MINUTE_US

Column = NDArray[np.float64]
Compute = Callable[[Mapping[str, Column]], Column]
At = TypeVar("At", int, NDArray[np.int64])

EXACT_US = 1
"""Step of a window whose tail is exact to the event: the resolution of event times."""
LONGEST_EXACT_US = 10 * MINUTE_US
"""Windows up to this, delay included, are exact at both ends unless a step is declared."""
LONGEST_US = 90 * DAY_US
"""How far back a window may reach, delay included."""

_SEPARATOR = "\x1f"


class InvalidDeclaration(ValueError):
    """The declaration is wrong; the message names the part, the reason and the way out."""


class Statistic(StrEnum):
    """What is computed over the events of a window."""

    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    VARIANCE = "variance"
    STDDEV = "stddev"
    DISTINCT = "distinct"
    FIRST = "first"
    LAST = "last"
    SINCE_LAST = "since_last"
    DECAYED = "decayed"


BEFORE_REQUEST = frozenset({Statistic.FIRST, Statistic.LAST, Statistic.SINCE_LAST})
"""Statistics of what came before the request: its own event is left out."""


@dataclass(frozen=True)
class Entity:
    """Something that features are about: `key` names the event field, or the fields, that hold its id.

    `in_request` names them in the request where they are called otherwise there: an account that is paid to is read by
    the payment's `payee_id` although its own payments are counted by `payer_id`.
    """

    name: str
    key: str | tuple[str, ...]
    in_request: str | tuple[str, ...] | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.key,) if isinstance(self.key, str) else self.key

    @property
    def request_keys(self) -> tuple[str, ...]:
        """Fields of the request that hold the id, in the order of `keys`."""
        if self.in_request is None:
            return self.keys
        return (self.in_request,) if isinstance(self.in_request, str) else self.in_request

    def id_in(self, request: Event) -> str:
        """The entity that the request is about."""
        return join_id([str(getattr(request, name)) for name in self.request_keys])


def join_id(parts: Sequence[str]) -> str:
    """One text for an id of several fields; `split_id` takes it apart."""
    return _SEPARATOR.join(parts)


def split_id(entity_id: str) -> tuple[str, ...]:
    """The values of the key's fields.

    >>> split_id(join_id(["c1", "t1"]))
    ('c1', 't1')
    """
    return tuple(entity_id.split(_SEPARATOR))


def step_us_of(window_us: int, delay_us: int = 0) -> int:
    """Default step of a window's tail: none up to ten minutes, a minute up to a day, an hour up to a week, then a day.

    >>> [step_us_of(m * MINUTE_US) // MINUTE_US for m in (10, 60, 2 * 1440, 30 * 1440)]
    [0, 1, 60, 1440]
    """
    reach = window_us + delay_us
    if reach <= LONGEST_EXACT_US:
        return EXACT_US
    if reach <= DAY_US:
        return MINUTE_US
    return HOUR_US if reach <= 7 * DAY_US else DAY_US


@dataclass(frozen=True)
class WindowedFeature:
    """One statistic of one event over one window of one entity."""

    name: str
    entity: Entity
    event: type[Event]
    key_fields: tuple[str, ...]
    """The event's fields that hold the entity's id."""
    statistic: Statistic
    field: str | None
    window_us: int
    step_us: int
    delay_us: int = 0
    default: float = 0.0
    """Value where the window holds nothing and the statistic is undefined (all but count, sum, distinct, decayed)."""
    conditions: tuple[Condition, ...] = ()
    rank: int = 1
    """LAST only: 1 for the newest event, 2 for the one before it, and so on."""
    half_life_us: int = 0
    """DECAYED only: an event that long ago counts half."""
    bounds: tuple[float, float] | None = None
    """Values beyond are brought to the nearer bound."""
    meaning: str = ""
    owner: str = ""

    @property
    def reach_us(self) -> int:
        """How far before its step the window begins."""
        return self.window_us + self.delay_us

    def bounds_us(self, at_us: At) -> tuple[At, At]:
        """The first moment inside the window at `at_us`, and the first past it; elementwise for many."""
        floor_us = at_us - at_us % self.step_us
        return floor_us - self.reach_us, floor_us - self.delay_us if self.delay_us else at_us + 1

    @property
    def undefined(self) -> float:
        """The value over a window without any event that contributes."""
        return 0.0 if self.statistic in _DEFINED_ON_NOTHING else self.default


_DEFINED_ON_NOTHING = frozenset({Statistic.COUNT, Statistic.SUM, Statistic.DISTINCT, Statistic.DECAYED})


@dataclass(frozen=True)
class RequestFeature:
    """A value computed from the request and other features at the moment of decision.

    `inputs` are names of features, or `request.<field>` for a numeric field of the request;
    `request.event_time_us` is its time. `compute` gets them as columns of equal length and returns one.
    """

    name: str
    inputs: tuple[str, ...]
    compute: Compute = field(compare=False)
    meaning: str = ""
    owner: str = ""


@dataclass(frozen=True)
class AttributeFeature:
    """A number known of an entity beforehand: one column of a table that is loaded from a batch; see `attributes`."""

    name: str
    entity: Entity
    table: str
    column: str
    valid_us: int | None
    """How long after its moment a load counts; None for values that have no end."""
    default: float = 0.0
    """Value where nothing is loaded, where that is null or no longer valid."""
    meaning: str = ""
    owner: str = ""
    cached_us: int | None = None
    """How long a decision may go by what was read for another; None where each reads for itself."""


Feature = WindowedFeature | AttributeFeature | RequestFeature
