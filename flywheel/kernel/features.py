"""The words in which features are declared.

    count(Transaction).by(card).over("1h", "24h")
    mean(Transaction, "amount_cents").by(card).over("30d")
    at_request("amount_vs_mean", inputs=("request.amount_cents", "card_transaction_amount_cents_mean_30d"), compute=...)

A window `over(w)` at time `t` covers the events with `floor(t, step) - w <= event_time <= t`: its head is exact to the
event, its tail moves in steps. The request's own event is counted exactly once, whether or not it has arrived yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.events import Event
from flywheel.kernel.durations import DAY_US, HOUR_US, MINUTE_US, parse_duration

Column = NDArray[np.float64]
Compute = Callable[[Mapping[str, Column]], Column]


class InvalidDeclaration(ValueError):
    """The declaration is wrong; the message names the part, the reason and the way out."""


class Statistic(StrEnum):
    """What is computed over the events of a window."""

    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"


@dataclass(frozen=True)
class Entity:
    """Something that features are about. `key` is the event field that holds its id."""

    name: str
    key: str


def step_us_of(window_us: int, delay_us: int = 0) -> int:
    """Default step of a window's tail: a minute up to a day, an hour up to seven days, a day beyond.

    >>> step_us_of(parse_duration("24h")) == MINUTE_US, step_us_of(parse_duration("30d")) == DAY_US
    (True, True)
    """
    reach = window_us + delay_us
    if reach <= DAY_US:
        return MINUTE_US
    return HOUR_US if reach <= 7 * DAY_US else DAY_US


@dataclass(frozen=True)
class WindowedFeature:
    """One statistic of one event over one window of one entity.

    With a delay `d` the window covers `floor(t, step) - d - w <= event_time < floor(t, step) - d`.
    """

    name: str
    entity: Entity
    event: type[Event]
    statistic: Statistic
    field: str | None
    window_us: int
    step_us: int
    delay_us: int = 0
    default: float = 0.0
    """Value where the window holds no event and the statistic is undefined (mean, min, max)."""

    @property
    def edges_us(self) -> tuple[int, int]:
        """First tile start inside the window and first one past it, relative to the tile that holds the moment."""
        return -self.delay_us - self.window_us, -self.delay_us if self.delay_us else self.step_us


@dataclass(frozen=True)
class RequestFeature:
    """A value computed from the request and other features at the moment of decision.

    `inputs` are names of features, or `request.<field>` for a numeric field of the request;
    `request.event_time_us` is its time. `compute` gets them as columns of equal length and returns one.
    """

    name: str
    inputs: tuple[str, ...]
    compute: Compute = field(compare=False)


Feature = WindowedFeature | RequestFeature


@dataclass(frozen=True)
class Aggregation:
    """A statistic on its way to becoming features: say by which entity and over which windows."""

    event: type[Event]
    statistic: Statistic
    field: str | None = None
    entity: Entity | None = None
    delay: str | None = None
    step: str | None = None
    default: float = 0.0

    def by(self, entity: Entity) -> Aggregation:
        """Grouped by this entity."""
        if entity.key not in self.event.model_fields:
            raise InvalidDeclaration(
                f"{self.event.__name__} cannot be grouped by {entity.name!r}: it has no field {entity.key!r}; "
                f"its fields are {', '.join(self.event.model_fields)}"
            )
        return replace(self, entity=entity)

    def delayed(self, delay: str) -> Aggregation:
        """The window ends that long before the moment of decision."""
        parse_duration(delay)
        return replace(self, delay=delay)

    def in_steps_of(self, step: str) -> Aggregation:
        """The window's tail moves in such steps instead of the default ones."""
        parse_duration(step)
        return replace(self, step=step)

    def over(self, *windows: str) -> tuple[WindowedFeature, ...]:
        """One feature for each window, named such as `card_transaction_amount_cents_mean_7d`."""
        if self.entity is None:
            raise InvalidDeclaration(
                f"{self.statistic} of {self.event.__name__} says no entity; add .by(entity) before .over(...)"
            )
        if not windows:
            raise InvalidDeclaration(f"{self.statistic} of {self.event.__name__} by {self.entity.name!r} has no window")
        return tuple(self._feature(self.entity, window) for window in windows)

    def _feature(self, entity: Entity, window: str) -> WindowedFeature:
        window_us = parse_duration(window)
        delay_us = parse_duration(self.delay) if self.delay else 0
        step_us = parse_duration(self.step) if self.step else step_us_of(window_us, delay_us)
        what = "count" if self.field is None else f"{self.field}_{self.statistic}"
        suffix = f"_delayed_{self.delay}" if self.delay else ""
        name = f"{entity.name}_{self.event.event_name}_{what}_{window}{suffix}"
        if step_us not in (MINUTE_US, HOUR_US, DAY_US):
            raise InvalidDeclaration(f"{name}: a step is '1m', '1h' or '1d', not {self.step!r}")
        if window_us % step_us or delay_us % step_us:
            raise InvalidDeclaration(
                f"{name}: window and delay must be whole multiples of the step of {step_us // 1_000_000} s"
            )
        return WindowedFeature(
            name=name,
            entity=entity,
            event=self.event,
            statistic=self.statistic,
            field=self.field,
            window_us=window_us,
            step_us=step_us,
            delay_us=delay_us,
            default=self.default,
        )


def _aggregation(event: type[Event], statistic: Statistic, field: str, default: float = 0.0) -> Aggregation:
    annotation = event.model_fields[field].annotation if field in event.model_fields else None
    if annotation not in (int, float):
        raise InvalidDeclaration(f"{statistic} of {event.__name__}.{field}: not a numeric field of {event.__name__}")
    return Aggregation(event, statistic, field, default=default)


def count(event: type[Event]) -> Aggregation:
    """How many events."""
    return Aggregation(event, Statistic.COUNT)


def total(event: type[Event], field: str) -> Aggregation:
    """Sum of a numeric field."""
    return _aggregation(event, Statistic.SUM, field)


def mean(event: type[Event], field: str, *, default: float = 0.0) -> Aggregation:
    """Mean of a numeric field."""
    return _aggregation(event, Statistic.MEAN, field, default)


def smallest(event: type[Event], field: str, *, default: float = 0.0) -> Aggregation:
    """Minimum of a numeric field."""
    return _aggregation(event, Statistic.MIN, field, default)


def largest(event: type[Event], field: str, *, default: float = 0.0) -> Aggregation:
    """Maximum of a numeric field."""
    return _aggregation(event, Statistic.MAX, field, default)


def at_request(name: str, *, inputs: tuple[str, ...], compute: Compute) -> tuple[RequestFeature, ...]:
    """A feature computed at the moment of decision; see `RequestFeature`."""
    if not inputs:
        raise InvalidDeclaration(f"{name}: a request feature needs at least one input")
    return (RequestFeature(name, inputs, compute),)


def ratio(name: str, numerator: str, denominator: str, *, default: float = 0.0) -> tuple[RequestFeature, ...]:
    """One feature divided by another; `default` where the denominator is zero.

    >>> (feature,) = ratio("risk", "bad", "all")
    >>> feature.compute({"bad": np.array([1.0, 1.0]), "all": np.array([4.0, 0.0])}).tolist()
    [0.25, 0.0]
    """

    def divide(columns: Mapping[str, Column]) -> Column:
        below = columns[denominator]
        quotient = np.full(below.shape, default, np.float64)
        np.divide(columns[numerator], below, out=quotient, where=below != 0)
        return quotient

    return (RequestFeature(name, (numerator, denominator), divide),)
