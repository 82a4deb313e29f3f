"""Windowed features as of moments in the past, computed from the events themselves.

The windows are those of `fold`: the same steps, the same heads, the same own event. An event takes part only if it had
arrived by the time at which the moment's own did: history knows what a decision could have known, and no more.
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

    An id hash that no event has stands for a moment that is no event.
    """

    at_us: Times
    own_ties: Times
    known_us: Times

    def part(self, chosen: NDArray[np.bool_]) -> Moments:
        return Moments(self.at_us[chosen], self.own_ties[chosen], self.known_us[chosen])


def history(view: TileView, rows: Cells, moments: Moments) -> Values:
    """Values of the view's features at each moment for one entity, shape (moments, features).

    `rows` are all its events, each once, sorted by `rows.in_time` and marked with their arrival in microseconds.
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


def _column(feature: WindowedFeature, past: _Past, moments: Moments) -> Values:
    if not len(past.rows):
        return _bounded(feature, np.full(len(moments.at_us), feature.undefined))
    first, last = _span(feature, past.times_us, moments.at_us)
    found = _METHODS[feature.statistic](feature, past, first, last, moments)
    for row in np.flatnonzero(_doubtful(past, first, last, moments)).tolist():
        found[row] = _as_known(feature, past, first[row], last[row], moments, row)
    return _bounded(feature, found)


def _bounded(feature: WindowedFeature, found: Values) -> Values:
    return found if feature.bounds is None else np.clip(found, *feature.bounds)


def _span(feature: WindowedFeature, times_us: Times, at_us: Times) -> tuple[Places, Places]:
    """First event inside each window and first one past it."""
    floor = at_us - at_us % feature.step_us
    first = np.searchsorted(times_us, floor - feature.delay_us - feature.window_us, side="left")
    if feature.delay_us:
        return first, np.searchsorted(times_us, floor - feature.delay_us, side="left")
    return first, np.searchsorted(times_us, at_us, side="right")


def _doubtful(past: _Past, first: Places, last: Places, moments: Moments) -> NDArray[np.bool_]:
    """Windows that hold an event, or end with one, that may have arrived after the moment's own."""
    late = past.latecomers
    arrivals = past.rows[:, MARK]
    newest = np.maximum.accumulate(np.where(late, arrivals, np.iinfo(np.int64).min))
    running = np.concatenate([[0], np.cumsum(late)])
    holds = (running[last] > running[first]) & (newest[last - 1] > moments.known_us)
    ends = (last > first) & (arrivals[last - 1] > moments.known_us)
    return holds | ends


def _as_known(feature: WindowedFeature, past: _Past, first: int, last: int, moments: Moments, row: int) -> float:
    """The value of one window from what had arrived by then."""
    chosen = np.zeros(len(past.rows), np.bool_)
    chosen[first:last] = past.rows[first:last, MARK] <= moments.known_us[row]
    known = past.part(chosen)
    if not len(known.rows):
        return feature.undefined
    mine = moments.part(np.arange(len(moments.at_us)) == row)
    bounds = np.array([0]), np.array([len(known.rows)])
    return float(_METHODS[feature.statistic](feature, known, *bounds, mine)[0])


_Method = Callable[[WindowedFeature, _Past, Places, Places, Moments], Values]


def _count(feature: WindowedFeature, past: _Past, first: Places, last: Places, moments: Moments) -> Values:
    return (last - first).astype(np.float64)


def _sum(feature: WindowedFeature, past: _Past, first: Places, last: Places, moments: Moments) -> Values:
    return past.moments(first, last).total


def _mean(feature: WindowedFeature, past: _Past, first: Places, last: Places, moments: Moments) -> Values:
    found = np.full(len(first), feature.undefined)
    np.divide(past.moments(first, last).total, last - first, out=found, where=last > first)
    return found


def _variance(feature: WindowedFeature, past: _Past, first: Places, last: Places, moments: Moments) -> Values:
    found = np.full(len(first), feature.undefined)
    np.divide(past.moments(first, last).m2, last - first, out=found, where=last > first)
    return found


def _stddev(feature: WindowedFeature, past: _Past, first: Places, last: Places, moments: Moments) -> Values:
    found = np.sqrt(np.maximum(_variance(feature, past, first, last, moments), 0.0))
    found[last <= first] = feature.undefined
    return found


def _extreme(feature: WindowedFeature, past: _Past, first: Places, last: Places, moments: Moments) -> Values:
    found = np.full(len(first), feature.undefined)
    present = last > first
    ufunc = np.fmin if feature.statistic is Statistic.MIN else np.fmax
    found[present] = _extremes(past.numbers, first[present], last[present], ufunc)
    return found


def _distinct(feature: WindowedFeature, past: _Past, first: Places, last: Places, moments: Moments) -> Values:
    hashes = past.rows[:, past.cell]
    return np.array([cardinality(sketch_of(hashes[a:b])) for a, b in zip(first.tolist(), last.tolist(), strict=True)])


def _decayed(feature: WindowedFeature, past: _Past, first: Places, last: Places, moments: Moments) -> Values:
    ages = ((at, past.times_us[a:b]) for at, a, b in zip(moments.at_us, first, last, strict=True))
    return np.array([float(np.exp2((times - at) / feature.half_life_us).sum()) for at, times in ages])


def _entry(feature: WindowedFeature, past: _Past, first: Places, last: Places, moments: Moments) -> Values:
    """FIRST, LAST and SINCE_LAST, the moment's own event left out."""
    assert feature.statistic in BEFORE_REQUEST
    found = np.full(len(first), feature.undefined)
    where = {tie: place for place, tie in enumerate(past.rows[:, TIE].tolist())}
    for row, (a, b, tie) in enumerate(zip(first.tolist(), last.tolist(), moments.own_ties.tolist(), strict=True)):
        own = where.get(tie, -1)
        inside = a <= own < b
        if b - a - inside < feature.rank:
            continue
        if feature.statistic is Statistic.FIRST:
            place = a + (own == a)
        else:
            place = b - feature.rank
            place -= inside and own >= place
        found[row] = past.numbers[place] if feature.field else (moments.at_us[row] - past.times_us[place]) / 1e6
    return found


_METHODS: dict[Statistic, _Method] = {
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
