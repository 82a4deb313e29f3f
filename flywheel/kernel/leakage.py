"""Whether a training row knows more than its request did: its windows computed again, from the definition alone.

Slow on purpose. It shares nothing with the engines but the declaration, so that what it finds is found independently.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.features import Statistic, WindowedFeature

TOLERANCE = 1e-9
"""Relative; sums of fractions depend on the order in which they are added."""


@dataclass(frozen=True)
class Recorded:
    """All events of one kind that one entity ever had, each once; columns of equal length.

    `fields` holds the event's own fields by name.
    """

    times_us: NDArray[np.int64]
    arrived_us: NDArray[np.int64]
    fields: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Request:
    """The event of a training row: which, when it happened, when it arrived."""

    event_id: str
    at_us: int
    arrived_us: int


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

    times_us: NDArray[np.int64]
    values: NDArray[Any]
    request: Request


def known_value(feature: WindowedFeature, recorded: Recorded | None, request: Request) -> float:
    """The feature over the events in its window that had arrived when the request did."""
    if recorded is None:
        return _over(feature, Inside(np.empty(0, np.int64), np.empty(0), request))
    floor_us = request.at_us // feature.step_us * feature.step_us
    low_us = floor_us - feature.delay_us - feature.window_us
    past_us = floor_us - feature.delay_us if feature.delay_us else request.at_us + 1
    counts = (recorded.times_us >= low_us) & (recorded.times_us < past_us)
    counts &= recorded.arrived_us <= request.arrived_us
    places = np.flatnonzero(counts)
    places = places[np.argsort(recorded.times_us[places], kind="stable")]
    values = np.ones(len(places)) if feature.field is None else recorded.fields[feature.field][places]
    return _over(feature, Inside(recorded.times_us[places], values, request))


def mismatches(
    features: Sequence[WindowedFeature],
    recorded: Mapping[str, Recorded],
    request: Request,
    trained: Mapping[str, float],
) -> list[Mismatch]:
    """The features of one entity whose value in the training row differs from what was known.

    `recorded` by event name; an event that the entity never had may be absent. `trained` by feature name.
    """
    found = []
    for feature in features:
        known = known_value(feature, recorded.get(feature.event.event_name), request)
        value = trained[feature.name]
        if not _same(value, known):
            found.append(Mismatch(feature.name, request.event_id, request.at_us, value, known))
    return found


def _over(feature: WindowedFeature, inside: Inside) -> float:
    if not len(inside.values) and feature.statistic not in _DEFINED_ON_NOTHING:
        return feature.default
    return float(_STATISTICS[feature.statistic](inside))


def _same(trained: float, known: float) -> bool:
    if math.isnan(trained) or math.isnan(known):
        return math.isnan(trained) and math.isnan(known)
    return math.isclose(trained, known, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


_DEFINED_ON_NOTHING = frozenset({Statistic.COUNT, Statistic.SUM})

_STATISTICS: dict[Statistic, Callable[[Inside], float]] = {
    Statistic.COUNT: lambda inside: len(inside.values),
    Statistic.SUM: lambda inside: math.fsum(inside.values.tolist()),
    Statistic.MEAN: lambda inside: math.fsum(inside.values.tolist()) / len(inside.values),
    Statistic.MIN: lambda inside: min(inside.values.tolist()),
    Statistic.MAX: lambda inside: max(inside.values.tolist()),
}
