"""Whether a training row knows more than its request did: its windows computed again, from the definition alone.

Slow on purpose. It shares nothing with the engines but the declaration and the order of simultaneous events, so that
what it finds is found independently.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.conditions import Condition, Operator
from flywheel.kernel.features import BEFORE_REQUEST, Statistic, WindowedFeature
from flywheel.kernel.rows import event_hash
from flywheel.kernel.sketch import EXACT_LIMIT

Way = tuple[str, tuple[str, ...]]
"""How events come to an entity: their name, and their fields that hold its id."""


@dataclass(frozen=True)
class Recorded:
    """All events of one kind that ever came to one entity in one way, each once; columns of equal length.

    `fields` holds the event's own fields by name, None or NaN where absent. What was `backfilled` was known from its
    own time on, whenever it arrived.
    """

    ids: Sequence[str]
    times_us: NDArray[np.int64]
    arrived_us: NDArray[np.int64]
    fields: Mapping[str, NDArray[Any]]
    backfilled: NDArray[np.bool_] | bool = False


@dataclass(frozen=True)
class Request:
    """The event of a training row: its kind, which, when it happened, when it arrived.

    One that was backfilled knows all that had happened by its time, whenever that arrived.
    """

    event_name: str
    event_id: str
    at_us: int
    arrived_us: int
    backfilled: bool = False


@dataclass(frozen=True)
class Mismatch:
    """A value in the training set that is not what was known at the request."""

    feature: str
    event_id: str
    at_us: int
    trained: float
    known: float

    def __str__(self) -> str:
        return f"{self.feature} of {self.event_id} is {self.trained:.12g}, but {self.known:.12g} was known"


@dataclass(frozen=True)
class Inside:
    """What a statistic is computed over: the events of a window in the order of time; `values` of its field."""

    feature: WindowedFeature
    at_us: int
    times_us: Sequence[int]
    values: Sequence[Any]


def known_value(feature: WindowedFeature, recorded: Recorded | None, request: Request) -> float:
    """The feature over the events in its window that had arrived when the request did."""
    places = [] if recorded is None else _places(feature, recorded, request)
    times_us = [int(recorded.times_us[place]) for place in places] if recorded else []
    values: Sequence[Any] = times_us
    if recorded is not None and feature.field is not None:
        values = recorded.fields[feature.field][places].tolist()
    value = feature.undefined
    if len(places) >= feature.rank:
        value = float(_STATISTICS[feature.statistic](Inside(feature, request.at_us, times_us, values)))
    return value if feature.bounds is None else min(max(value, feature.bounds[0]), feature.bounds[1])


def mismatches(
    features: Sequence[WindowedFeature],
    recorded: Mapping[Way, Recorded],
    request: Request,
    trained: Mapping[str, float],
) -> list[Mismatch]:
    """The features of one entity whose value in the training row differs from what was known.

    `recorded` by event name and key fields; a way in which nothing came may be absent. `trained` by feature name.
    """
    found = []
    for feature in features:
        known = known_value(feature, recorded.get((feature.event.event_name, feature.key_fields)), request)
        value = trained[feature.name]
        if not _same(feature, value, known):
            found.append(Mismatch(feature.name, request.event_id, request.at_us, value, known))
    return found


def _places(feature: WindowedFeature, recorded: Recorded, request: Request) -> list[int]:
    """The events inside the window, in the order of time."""
    floor_us = request.at_us // feature.step_us * feature.step_us
    low_us = floor_us - feature.delay_us - feature.window_us
    past_us = floor_us - feature.delay_us if feature.delay_us else request.at_us + 1
    inside = (recorded.times_us >= low_us) & (recorded.times_us < past_us)
    if not request.backfilled:
        inside &= recorded.backfilled | (recorded.arrived_us <= request.arrived_us)
    places = [place for place in np.flatnonzero(inside).tolist() if _counts(feature, recorded, place, request)]
    if feature.statistic not in _ORDERED:
        return places
    name = feature.event.event_name
    return sorted(places, key=lambda place: (recorded.times_us[place], event_hash(name, recorded.ids[place])))


def _counts(feature: WindowedFeature, recorded: Recorded, place: int, request: Request) -> bool:
    """Whether the event takes part: the feature's own conditions, a field that is there, and not the request itself."""
    own = (feature.event.event_name, recorded.ids[place]) == (request.event_name, request.event_id)
    if own and feature.statistic in BEFORE_REQUEST:
        return False
    if feature.field is not None and _absent(recorded.fields[feature.field][place]):
        return False
    return all(_meets(recorded.fields[condition.field][place], condition) for condition in feature.conditions)


def _meets(value: Any, condition: Condition) -> bool:
    return not _absent(value) and bool(_COMPARISONS[condition.operator](value, condition.value))


def _absent(value: Any) -> bool:
    return value is None or value != value


def _same(feature: WindowedFeature, trained: float, known: float) -> bool:
    if math.isnan(trained) or math.isnan(known):
        return math.isnan(trained) and math.isnan(known)
    tolerance = _TOLERANCES.get(feature.statistic, _TOLERANCE)
    if feature.statistic is Statistic.DISTINCT and known <= EXACT_LIMIT:
        tolerance = 0.0
    return math.isclose(trained, known, rel_tol=tolerance, abs_tol=tolerance)


def _mean(inside: Inside) -> float:
    return math.fsum(inside.values) / len(inside.values)


def _variance(inside: Inside) -> float:
    middle = _mean(inside)
    return math.fsum((value - middle) ** 2 for value in inside.values) / len(inside.values)


def _decayed(inside: Inside) -> float:
    return math.fsum(2 ** ((time_us - inside.at_us) / inside.feature.half_life_us) for time_us in inside.times_us)


_STATISTICS: dict[Statistic, Callable[[Inside], float]] = {
    Statistic.COUNT: lambda inside: len(inside.times_us),
    Statistic.SUM: lambda inside: math.fsum(inside.values),
    Statistic.MEAN: _mean,
    Statistic.MIN: lambda inside: min(inside.values),
    Statistic.MAX: lambda inside: max(inside.values),
    Statistic.VARIANCE: _variance,
    Statistic.STDDEV: lambda inside: math.sqrt(_variance(inside)),
    Statistic.DISTINCT: lambda inside: len({str(value) for value in inside.values}),
    Statistic.FIRST: lambda inside: inside.values[0],
    Statistic.LAST: lambda inside: inside.values[-inside.feature.rank],
    Statistic.SINCE_LAST: lambda inside: (inside.at_us - inside.times_us[-1]) / 1e6,
    Statistic.DECAYED: _decayed,
}

_ORDERED = BEFORE_REQUEST
"""Statistics that the order of simultaneous events makes a difference to."""

_COMPARISONS: dict[Operator, Callable[[Any, Any], Any]] = {
    Operator.EQUALS: lambda value, bound: value == bound,
    Operator.DIFFERS: lambda value, bound: value != bound,
    Operator.AT_LEAST: lambda value, bound: value >= bound,
    Operator.BELOW: lambda value, bound: value < bound,
}

_TOLERANCE = 1e-9
"""Relative; sums of fractions depend on the order in which they are added."""

_TOLERANCES = {
    Statistic.VARIANCE: 1e-6,
    Statistic.STDDEV: 1e-6,
    # Five standard errors of the estimate that is served beyond a small number.
    Statistic.DISTINCT: 0.17,
}
