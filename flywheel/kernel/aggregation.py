"""The words in which features are declared.

count(Transaction).by(card).over("1m", "1h", "24h")
mean(Transaction, "amount_cents").only(where("amount_cents").at_least(1_000)).by(card).over("30d")
last_n(Transaction, "amount_cents", 3).by(card).over("7d")
at_request("amount_vs_mean", inputs=("request.amount_cents", "card_transaction_amount_cents_mean_30d"), compute=...)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from flywheel.contracts.events import Event
from flywheel.kernel.conditions import Condition
from flywheel.kernel.durations import DAY_US, HOUR_US, MINUTE_US, SECOND_US, parse_duration
from flywheel.kernel.features import (
    EXACT_US,
    LONGEST_US,
    Column,
    Compute,
    Entity,
    InvalidDeclaration,
    RequestFeature,
    Statistic,
    WindowedFeature,
    step_us_of,
)
from flywheel.kernel.fields import kind_of

_SHORTEST_US = 10 * SECOND_US
_LONGEST_LIST = 16
_LIVES_PER_TILE = 512
"""Beyond some thousand half-lives a double knows nothing but zero."""


@dataclass(frozen=True)
class Aggregation:
    """A statistic on its way to becoming features: say by which entity and over which windows."""

    event: type[Event]
    statistic: Statistic
    field: str | None = None
    entity: Entity | None = None
    key_fields: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    label: str = ""
    delay: str | None = None
    step: str | None = None
    default: float = 0.0
    ranks: int = 1
    half_life: str | None = None
    bounds: tuple[float, float] | None = None
    meaning: str = ""
    owner: str = ""

    def by(self, entity: Entity, *, via: str | tuple[str, ...] | None = None) -> Aggregation:
        """Grouped by this entity, whose id the event holds in the fields `via` if not in those of the entity's key."""
        fields = entity.keys if via is None else (via,) if isinstance(via, str) else via
        for name in fields:
            if name not in self.event.model_fields:
                raise InvalidDeclaration(
                    f"{self.event.__name__} cannot be grouped by {entity.name!r}: it has no field {name!r}; "
                    f"its fields are {', '.join(self.event.model_fields)}"
                )
        if len(fields) != len(entity.keys):
            raise InvalidDeclaration(
                f"{self.event.__name__} cannot be grouped by {entity.name!r} via {', '.join(fields)}: "
                f"its key has {len(entity.keys)} fields ({', '.join(entity.keys)})"
            )
        return replace(self, entity=entity, key_fields=fields)

    def only(self, *conditions: Condition, named: str = "") -> Aggregation:
        """Of the events that meet all conditions. `named` goes into the features' names in their place."""
        for condition in conditions:
            if fault := condition.fault(self.event):
                raise InvalidDeclaration(f"{self.statistic} of {self.event.__name__} only where {condition}: {fault}")
        label = named or "_".join(_words(condition) for condition in conditions)
        return replace(self, conditions=self.conditions + conditions, label="_".join(filter(None, (self.label, label))))

    def delayed(self, delay: str) -> Aggregation:
        """The window ends that long before the moment of decision."""
        parse_duration(delay)
        return replace(self, delay=delay)

    def in_steps_of(self, step: str) -> Aggregation:
        """The window's tail moves in such steps instead of the default ones."""
        parse_duration(step)
        return replace(self, step=step)

    def within(self, low: float, high: float) -> Aggregation:
        """Values are brought into these bounds."""
        if not low < high:
            raise InvalidDeclaration(f"{self.statistic} of {self.event.__name__}: {low} is not below {high}")
        return replace(self, bounds=(low, high))

    def means(self, meaning: str, *, owner: str = "") -> Aggregation:
        """A sentence for the catalogue, and who answers for the feature."""
        return replace(self, meaning=meaning, owner=owner)

    def over(self, *windows: str) -> tuple[WindowedFeature, ...]:
        """One feature for each window, named such as `card_transaction_amount_cents_mean_7d`."""
        if self.entity is None:
            raise InvalidDeclaration(
                f"{self.statistic} of {self.event.__name__} says no entity; add .by(entity) before .over(...)"
            )
        if not windows:
            raise InvalidDeclaration(f"{self.statistic} of {self.event.__name__} by {self.entity.name!r} has no window")
        ranks = range(1, self.ranks + 1)
        return tuple(self._feature(self.entity, window, rank) for window in windows for rank in ranks)

    def __iter__(self) -> Iterator[WindowedFeature]:
        """Raises InvalidDeclaration: only its windows make features of it."""
        raise InvalidDeclaration(f'{self.statistic} of {self.event.__name__} has no window; end it with .over("1h", …)')

    def _feature(self, entity: Entity, window: str, rank: int) -> WindowedFeature:
        window_us = parse_duration(window)
        delay_us = parse_duration(self.delay) if self.delay else 0
        step_us = parse_duration(self.step) if self.step else step_us_of(window_us, delay_us)
        feature = WindowedFeature(
            name=self._name(entity, window, rank),
            entity=entity,
            event=self.event,
            key_fields=self.key_fields,
            statistic=self.statistic,
            field=self.field,
            window_us=window_us,
            step_us=step_us,
            delay_us=delay_us,
            default=self.default,
            conditions=self.conditions,
            rank=rank,
            half_life_us=parse_duration(self.half_life) if self.half_life else 0,
            bounds=self.bounds,
            meaning=self.meaning,
            owner=self.owner,
        )
        _check(feature)
        return feature

    def _name(self, entity: Entity, window: str, rank: int) -> str:
        role = "" if self.key_fields == entity.keys else "_as_" + "_".join(self.key_fields)
        parts = [entity.name + role, self.event.event_name, self.label, self.field or "", self._what()]
        parts += [str(rank)] if self.ranks > 1 else []
        parts += [window, f"delayed_{self.delay}" if self.delay else ""]
        return "_".join(filter(None, parts))

    def _what(self) -> str:
        return f"decayed_{self.half_life}" if self.half_life else str(self.statistic)


def _words(condition: Condition) -> str:
    return f"{condition.field}_{condition.operator.name.lower()}_{condition.value}".lower().replace(" ", "_")


def _check(feature: WindowedFeature) -> None:
    if not feature.window_us >= _SHORTEST_US or feature.reach_us > LONGEST_US:
        raise InvalidDeclaration(f"{feature.name}: a window is 10 s or longer, and reaches back no further than 90 d")
    if feature.step_us == EXACT_US:
        return
    if feature.step_us not in (MINUTE_US, HOUR_US, DAY_US):
        raise InvalidDeclaration(f"{feature.name}: a step is '1m', '1h' or '1d'")
    if feature.window_us % feature.step_us or feature.delay_us % feature.step_us:
        raise InvalidDeclaration(
            f"{feature.name}: window and delay must be whole multiples of the step of {feature.step_us // SECOND_US} s"
        )
    if feature.half_life_us and feature.half_life_us * _LIVES_PER_TILE < feature.step_us:
        raise InvalidDeclaration(
            f"{feature.name}: the half-life is too short for tiles of {feature.step_us // SECOND_US} s; "
            "declare finer ones by .in_steps_of(...) or a shorter window"
        )


def _of_number(event: type[Event], statistic: Statistic, field: str, default: float = 0.0) -> Aggregation:
    if kind_of(event, field) not in (int, float):
        raise InvalidDeclaration(f"{statistic} of {event.__name__}.{field}: not a numeric field of {event.__name__}")
    return Aggregation(event, statistic, field, default=default)


def count(event: type[Event]) -> Aggregation:
    """How many events."""
    return Aggregation(event, Statistic.COUNT)


def total(event: type[Event], field: str) -> Aggregation:
    """Sum of a numeric field."""
    return _of_number(event, Statistic.SUM, field)


def mean(event: type[Event], field: str, *, default: float = 0.0) -> Aggregation:
    """Mean of a numeric field; where it is absent an event takes no part."""
    return _of_number(event, Statistic.MEAN, field, default)


def smallest(event: type[Event], field: str, *, default: float = 0.0) -> Aggregation:
    """Minimum of a numeric field."""
    return _of_number(event, Statistic.MIN, field, default)


def largest(event: type[Event], field: str, *, default: float = 0.0) -> Aggregation:
    """Maximum of a numeric field."""
    return _of_number(event, Statistic.MAX, field, default)


def variance(event: type[Event], field: str, *, default: float = 0.0) -> Aggregation:
    """Variance of a numeric field: the mean square distance from the mean, over n."""
    return _of_number(event, Statistic.VARIANCE, field, default)


def stddev(event: type[Event], field: str, *, default: float = 0.0) -> Aggregation:
    """Standard deviation of a numeric field: the root of `variance`."""
    return _of_number(event, Statistic.STDDEV, field, default)


def distinct(event: type[Event], field: str) -> Aggregation:
    """How many different values of a field: exact up to 64, then HyperLogLog's estimate (standard error 3.3 %)."""
    if kind_of(event, field) not in (str, int):
        raise InvalidDeclaration(f"distinct of {event.__name__}.{field}: not a text or whole-number field")
    return Aggregation(event, Statistic.DISTINCT, field)


def first(event: type[Event], field: str, *, default: float = 0.0) -> Aggregation:
    """The field of the window's oldest event."""
    return _of_number(event, Statistic.FIRST, field, default)


def last(event: type[Event], field: str, *, default: float = 0.0) -> Aggregation:
    """The field of the newest event before the request."""
    return _of_number(event, Statistic.LAST, field, default)


def last_n(event: type[Event], field: str, n: int, *, default: float = 0.0) -> Aggregation:
    """The field of the `n` newest events before the request, newest first, as `n` features."""
    if not 2 <= n <= _LONGEST_LIST:
        raise InvalidDeclaration(f"last_n of {event.__name__}.{field}: n is between 2 and {_LONGEST_LIST}, not {n}")
    return replace(_of_number(event, Statistic.LAST, field, default), ranks=n)


def since_last(event: type[Event], *, default: float = -1.0) -> Aggregation:
    """Seconds since the newest event before the request."""
    return Aggregation(event, Statistic.SINCE_LAST, default=default)


def decayed_count(event: type[Event], half_life: str) -> Aggregation:
    """How many events, each counting half as much for every `half_life` that has passed since."""
    parse_duration(half_life)
    return Aggregation(event, Statistic.DECAYED, half_life=half_life)


def at_request(
    name: str, *, inputs: tuple[str, ...], compute: Compute, meaning: str = "", owner: str = ""
) -> tuple[RequestFeature, ...]:
    """A feature computed at the moment of decision; see `RequestFeature`."""
    if not inputs:
        raise InvalidDeclaration(f"{name}: a request feature needs at least one input")
    return (RequestFeature(name, inputs, compute, meaning, owner),)


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

    return (RequestFeature(name, (numerator, denominator), divide, f"{numerator} divided by {denominator}"),)


def difference(name: str, minuend: str, subtrahend: str) -> tuple[RequestFeature, ...]:
    """One feature less another."""

    def subtract(columns: Mapping[str, Column]) -> Column:
        return columns[minuend] - columns[subtrahend]

    return (RequestFeature(name, (minuend, subtrahend), subtract, f"{minuend} less {subtrahend}"),)
