"""Windowed features as of moments in the past, computed from the events themselves.

The windows are those of `fold`: the same steps, the same heads, the same own event. An event takes part only if it had
arrived by the time at which the moment's own did: history knows what a decision could have known, and no more. Of
backfilled events the arrival says nothing: they are known from their own time on, and a backfilled moment knows all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.features import BEFORE_REQUEST, Statistic, WindowedFeature
from flywheel.kernel.moment_tree import MomentTree, PowerSums
from flywheel.kernel.plan import FIXED_CELLS, TileView, source_of
from flywheel.kernel.rows import MARK, TIE, TIME, Cells, Times, contributing
from flywheel.kernel.sketch import cardinality, sketch_of

Values = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class Moments:
    """When the features are wanted: for events of these times, id hashes and arrivals; shape (moments,) each.

    An id hash that no event has stands for a moment that is no event. What backfilled ones know `knows_until` tells.
    """

    at_us: Times
    own_ties: Times
    known_us: Times

    def part(self, chosen: NDArray[np.bool_]) -> Moments:
        return Moments(self.at_us[chosen], self.own_ties[chosen], self.known_us[chosen])


def known_from(arrived_us: Times, backfilled: NDArray[np.bool_]) -> Times:
    """Marks of events: what arrives no earlier knows them.

    >>> known_from(np.array([7, 8]), np.array([False, True])).tolist()
    [7, -9223372036854775808]
    """
    return np.where(backfilled, np.iinfo(np.int64).min, arrived_us)


def knows_until(arrived_us: Times, backfilled: NDArray[np.bool_]) -> Times:
    """What events, as moments, know: all with a mark up to that.

    >>> knows_until(np.array([7, 8]), np.array([False, True])).tolist()
    [7, 9223372036854775807]
    """
    return np.where(backfilled, np.iinfo(np.int64).max, arrived_us)


def history(view: TileView, rows: Cells, moments: Moments) -> Values:
    """Values of the view's features at each moment for one entity, shape (moments, features).

    `rows` are all its events, each once, sorted by `rows.in_time` and marked with their arrival in microseconds, or by
    `known_from` where some may be backfilled.
    An event at a moment itself, the moment's own among them, is inside its windows.
    """
    columns = np.empty((len(moments.at_us), len(view.features)), np.float64)
    for source in view.sources:
        mine = rows[contributing(view, rows, source)]
        past = _Past(mine, FIXED_CELLS + view.sources.index(source))
        for place, feature in enumerate(view.features):
            if source_of(feature) == source:
                columns[:, place] = _column(feature, past, moments)
    return columns


@dataclass(frozen=True)
class _Past:
    """The events that contribute to one source."""

    rows: Cells
    cell: int

    @property
    def times_us(self) -> Times:
        return self.rows[:, TIME]

    @cached_property
    def numbers(self) -> Values:
        return self.rows[:, self.cell].copy().view(np.float64)

    @cached_property
    def _tree(self) -> MomentTree:
        return MomentTree(self.numbers)

    def moments(self, first: Places, last: Places) -> PowerSums:
        """Count, sum and squares about the mean of each window."""
        return self._tree.over(first, last)

    @cached_property
    def latecomers(self) -> NDArray[np.bool_]:
        """Events that arrived after one of a later time: only these can be unknown inside a window."""
        arrivals = self.rows[:, MARK]
        return arrivals > np.minimum.accumulate(arrivals[::-1])[::-1]

    def part(self, chosen: NDArray[np.bool_]) -> _Past:
        return _Past(self.rows[chosen], self.cell)


@dataclass(frozen=True)
class _Windows:
    """One feature's windows: at each moment, the events `past.rows[first:last]`."""

    feature: WindowedFeature
    past: _Past
    first: Places
    last: Places
    moments: Moments

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which windows hold an event."""
        return self.last > self.first

    def undefined(self) -> Values:
        """The value over nothing, for each window."""
        return np.full(len(self.first), self.feature.undefined)

    def per_event(self, totals: Values) -> Values:
        """Totals over windows divided by how many events are inside."""
        found = self.undefined()
        np.divide(totals, self.last - self.first, out=found, where=self.present)
        return found


def _column(feature: WindowedFeature, past: _Past, moments: Moments) -> Values:
    if not len(past.rows):
        return _bounded(feature, np.full(len(moments.at_us), feature.undefined))
    windows = _Windows(feature, past, *_span(feature, past.times_us, moments.at_us), moments)
    found = _METHODS[feature.statistic](windows)
    for row in np.flatnonzero(_doubtful(windows)).tolist():
        found[row] = _as_known(windows, row)
    return _bounded(feature, found)


def _bounded(feature: WindowedFeature, found: Values) -> Values:
    return found if feature.bounds is None else np.clip(found, *feature.bounds)


def _span(feature: WindowedFeature, times_us: Times, at_us: Times) -> tuple[Places, Places]:
    """First event inside each window and first one past it."""
    first_us, past_us = feature.bounds_us(at_us)
    return np.searchsorted(times_us, first_us), np.searchsorted(times_us, past_us)


def _doubtful(windows: _Windows) -> NDArray[np.bool_]:
    """Windows that hold an event, or end with one, that may have arrived after the moment's own."""
    past, first, last, known_us = windows.past, windows.first, windows.last, windows.moments.known_us
    late, arrivals = past.latecomers, past.rows[:, MARK]
    newest = np.maximum.accumulate(np.where(late, arrivals, np.iinfo(np.int64).min))
    running = np.concatenate([[0], np.cumsum(late)])
    holds = (running[last] > running[first]) & (newest[last - 1] > known_us)
    return holds | windows.present & (arrivals[last - 1] > known_us)


def _as_known(windows: _Windows, row: int) -> float:
    """The value of one window from what had arrived by then."""
    past, first, last = windows.past, windows.first[row], windows.last[row]
    chosen = np.zeros(len(past.rows), np.bool_)
    chosen[first:last] = past.rows[first:last, MARK] <= windows.moments.known_us[row]
    known = past.part(chosen)
    if not len(known.rows):
        return windows.feature.undefined
    moment = windows.moments.part(np.arange(len(windows.first)) == row)
    one = _Windows(windows.feature, known, np.array([0]), np.array([len(known.rows)]), moment)
    return float(_METHODS[windows.feature.statistic](one)[0])


def _count(windows: _Windows) -> Values:
    return (windows.last - windows.first).astype(np.float64)


def _sum(windows: _Windows) -> Values:
    return windows.past.moments(windows.first, windows.last).total


def _mean(windows: _Windows) -> Values:
    return windows.per_event(_sum(windows))


def _variance(windows: _Windows) -> Values:
    return windows.per_event(windows.past.moments(windows.first, windows.last).m2)


def _stddev(windows: _Windows) -> Values:
    return np.where(windows.present, np.sqrt(np.abs(_variance(windows))), windows.feature.undefined)


def _extreme(windows: _Windows) -> Values:
    found, present = windows.undefined(), windows.present
    ufunc = np.fmin if windows.feature.statistic is Statistic.MIN else np.fmax
    found[present] = _extremes(windows.past.numbers, windows.first[present], windows.last[present], ufunc)
    return found


def _distinct(windows: _Windows) -> Values:
    hashes = windows.past.rows[:, windows.past.cell]
    bounds = zip(windows.first.tolist(), windows.last.tolist(), strict=True)
    return np.array([cardinality(sketch_of(hashes[low:high])) for low, high in bounds])


def _decayed(windows: _Windows) -> Values:
    times_us, half_life_us = windows.past.times_us, windows.feature.half_life_us
    bounds = zip(windows.moments.at_us.tolist(), windows.first.tolist(), windows.last.tolist(), strict=True)
    return np.array([float(np.exp2((times_us[low:high] - at) / half_life_us).sum()) for at, low, high in bounds])


def _entry(windows: _Windows) -> Values:
    """FIRST, LAST and SINCE_LAST, the moment's own event left out."""
    feature, past, moments = windows.feature, windows.past, windows.moments
    assert feature.statistic in BEFORE_REQUEST
    found = windows.undefined()
    where = {tie: place for place, tie in enumerate(past.rows[:, TIE].tolist())}
    bounds = zip(windows.first.tolist(), windows.last.tolist(), moments.own_ties.tolist(), strict=True)
    for row, (low, high, tie) in enumerate(bounds):
        own = where.get(tie, -1)
        inside = low <= own < high
        if high - low - inside < feature.rank:
            continue
        if feature.statistic is Statistic.FIRST:
            place = low + (own == low)
        else:
            place = high - feature.rank
            place -= inside and own >= place
        found[row] = past.numbers[place] if feature.field else (moments.at_us[row] - past.times_us[place]) / 1e6
    return found


_METHODS: dict[Statistic, Callable[[_Windows], Values]] = {
    Statistic.COUNT: _count,
    Statistic.SUM: _sum,
    Statistic.MEAN: _mean,
    Statistic.MIN: _extreme,
    Statistic.MAX: _extreme,
    Statistic.VARIANCE: _variance,
    Statistic.STDDEV: _stddev,
    Statistic.DISTINCT: _distinct,
    Statistic.DECAYED: _decayed,
    Statistic.FIRST: _entry,
    Statistic.LAST: _entry,
    Statistic.SINCE_LAST: _entry,
}


def _extremes(values: Values, first: Places, last: Places, extreme: np.ufunc) -> Values:
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
