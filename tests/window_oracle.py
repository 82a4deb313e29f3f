"""A window by its definition: a loop over the events. What every engine is held to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from flywheel.kernel.conditions import Condition, Operator
from flywheel.kernel.features import BEFORE_REQUEST, Statistic, WindowedFeature
from flywheel.kernel.rows import event_hash, id_hash


@dataclass(frozen=True)
class Happened:
    """An event: what kind, which, when, its own fields, when it arrived, and whether that was after the fact."""

    name: str
    event_id: str
    time_us: int
    fields: Mapping[str, object] = field(default_factory=dict)
    arrived_us: int = 0
    backfilled: bool = False

    @property
    def knows_until_us(self) -> int | None:
        """The latest arrival that it knows of as a request; None for all."""
        return None if self.backfilled else self.arrived_us

    @property
    def order(self) -> tuple[int, int]:
        return self.time_us, event_hash(self.name, self.event_id)


def window_value(
    feature: WindowedFeature,
    entity_id: tuple[str, ...],
    events: Iterable[Happened],
    at_us: int,
    *,
    own: Happened | None = None,
    known_us: int | None = None,
) -> float:
    """The feature of the entity at a moment. `own` belongs to its windows whether or not it is among the events."""
    everything = {(e.name, e.event_id): e for e in reversed([*events, *([own] if own else [])])}
    floor = at_us // feature.step_us * feature.step_us
    low = floor - feature.delay_us - feature.window_us
    high = floor - feature.delay_us if feature.delay_us else at_us + 1
    inside = [
        e
        for e in everything.values()
        if e.name == feature.event.event_name
        and low <= e.time_us < high
        and tuple(str(e.fields[name]) for name in feature.key_fields) == entity_id
        and all(_meets(e, condition) for condition in feature.conditions)
        and (feature.field is None or e.fields[feature.field] is not None)
        and (known_us is None or e.backfilled or e.arrived_us <= known_us)
    ]
    value = _statistic(feature, sorted(inside, key=lambda e: e.order), at_us, own)
    return value if feature.bounds is None else min(max(value, feature.bounds[0]), feature.bounds[1])


def _meets(event: Happened, condition: Condition) -> bool:
    value = event.fields[condition.field]
    if value is None:
        return False
    match condition.operator:
        case Operator.EQUALS:
            return bool(value == condition.value)
        case Operator.DIFFERS:
            return bool(value != condition.value)
        case Operator.AT_LEAST:
            return bool(value >= condition.value)  # type: ignore[operator]
        case Operator.BELOW:
            return bool(value < condition.value)  # type: ignore[operator]


def _statistic(feature: WindowedFeature, events: list[Happened], at_us: int, own: Happened | None) -> float:
    if own is not None and feature.statistic in BEFORE_REQUEST:
        events = [e for e in events if (e.name, e.event_id) != (own.name, own.event_id)]
    match feature.statistic:
        case Statistic.COUNT:
            return float(len(events))
        case Statistic.DECAYED:
            return math.fsum(2 ** ((e.time_us - at_us) / feature.half_life_us) for e in events)
        case Statistic.DISTINCT:
            return float(len({id_hash(str(e.fields[str(feature.field)])) for e in events}))
        case Statistic.SINCE_LAST:
            return (at_us - events[-1].time_us) / 1e6 if events else feature.default
    return _of_numbers(feature, [Fraction(float(str(e.fields[str(feature.field)]))) for e in events])


def _of_numbers(feature: WindowedFeature, numbers: list[Fraction]) -> float:
    if feature.statistic is Statistic.SUM:
        return float(sum(numbers))
    if len(numbers) < feature.rank:
        return feature.default
    middle = sum(numbers) / len(numbers)
    variance = sum((number - middle) ** 2 for number in numbers) / len(numbers)
    return float(
        {
            Statistic.MEAN: middle,
            Statistic.MIN: min(numbers),
            Statistic.MAX: max(numbers),
            Statistic.FIRST: numbers[0],
            Statistic.LAST: numbers[-feature.rank],
            Statistic.VARIANCE: variance,
            Statistic.STDDEV: math.sqrt(variance),
        }[feature.statistic]
    )
