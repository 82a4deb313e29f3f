"""Windowed features as of moments in the past, computed from the events themselves.

The same windows as `tiles.fold`: cut by `tiles.window_bounds`, with an exact head at the moment asked about. Sums of
whole numbers are exact, so history and the online store agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.features import Statistic, WindowedFeature
from flywheel.kernel.plan import TileView
from flywheel.kernel.tiles import window_bounds

Times = NDArray[np.int64]
Values = NDArray[Any]


@dataclass(frozen=True)
class PastEvents:
    """Events of one kind that one entity had, each once, sorted by time; `fields` by name, NaN where absent."""

    times_us: Times
    fields: Mapping[str, Values]

    @cached_property
    def totals(self) -> dict[str, Values]:
        """Running totals of every field, one longer than the events."""
        return {name: _running(np.nan_to_num(values)) for name, values in self.fields.items()}


def history(view: TileView, events: Mapping[str, PastEvents], at_us: Times) -> NDArray[np.float64]:
    """Values of the view's features at each moment for one entity, shape (moments, features).

    `events` by event name; an event that the entity never had may be absent. An event at a moment itself, the one the
    moment belongs to among them, is inside its windows.
    """
    columns = np.empty((len(at_us), len(view.features)), np.float64)
    for index, feature in enumerate(view.features):
        past = events.get(feature.event.event_name)
        columns[:, index] = _empty(feature) if past is None else _column(feature, past, at_us)
    return columns


def _column(feature: WindowedFeature, past: PastEvents, at_us: Times) -> NDArray[np.float64]:
    first, last = _span(feature, past.times_us, at_us)
    counts = (last - first).astype(np.float64)
    if feature.statistic is Statistic.COUNT:
        return counts
    name = str(feature.field)
    present = counts > 0
    column = np.full(len(at_us), _empty(feature))
    if feature.statistic in (Statistic.SUM, Statistic.MEAN):
        sums = (past.totals[name][last] - past.totals[name][first]).astype(np.float64)
        column[present] = sums[present] if feature.statistic is Statistic.SUM else sums[present] / counts[present]
        return column
    extreme = np.fmin if feature.statistic is Statistic.MIN else np.fmax
    column[present] = _extremes(past.fields[name].astype(np.float64), first[present], last[present], extreme)
    return column


def _empty(feature: WindowedFeature) -> float:
    return 0.0 if feature.statistic in (Statistic.COUNT, Statistic.SUM) else feature.default


def _span(feature: WindowedFeature, times_us: Times, at_us: Times) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    low, high = window_bounds(feature, at_us)
    first = np.searchsorted(times_us, low, side="left")
    if feature.delay_us:
        return first, np.searchsorted(times_us, high, side="left")
    return first, np.searchsorted(times_us, at_us, side="right")


def _running(values: Values) -> Values:
    totals = np.zeros(len(values) + 1, values.dtype)
    np.cumsum(values, out=totals[1:])
    return totals


def _extremes(
    values: NDArray[np.float64], first: NDArray[np.intp], last: NDArray[np.intp], extreme: np.ufunc
) -> NDArray[np.float64]:
    """The extreme of each `values[first:last]`, none empty, from extremes of stretches that double in length."""
    found = np.empty(len(first))
    level = np.frexp((last - first).astype(np.float64))[1] - 1
    stretches, length = values, 1
    for power in range(int(level.max(initial=-1)) + 1):
        if power:
            stretches = extreme(stretches[:-length], stretches[length:])
            length *= 2
        mine = level == power
        found[mine] = extreme(stretches[first[mine]], stretches[last[mine] - length])
    return found
