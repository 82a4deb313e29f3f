"""Reading windows: a state, what has arrived since, and the request's own event, folded at the moment of decision.

A quiet entity decays by itself, because windows are cut when they are read. The read plan of a view is made once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.durations import SECOND_US
from flywheel.kernel.features import BEFORE_REQUEST, EXACT_US, Statistic, WindowedFeature
from flywheel.kernel.plan import FIXED_CELLS, Lane, Part, Source, TileView, source_of
from flywheel.kernel.rows import MARK, TIE, TIME, Cells, in_time
from flywheel.kernel.sketch import Sketch, cardinality, sketch_of, union
from flywheel.kernel.state import EntityState
from flywheel.kernel.tiles import NO_TIME, Tiles

Values = NDArray[np.float64]
Indices = NDArray[np.intp]
Moments = NDArray[np.int64]

_ADDITIVE = frozenset({Statistic.COUNT, Statistic.SUM, Statistic.MEAN})
_FOREVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class _Stretch:
    """Tiles of one lane that features read: `features` by place, from `low` up to, not including, `high`."""

    lane: int
    features: Indices
    low: Moments
    high: Moments


class Reading:
    """How the windows of one view are read; made once for each view, because a decision has no time to plan."""

    def __init__(self, view: TileView) -> None:
        features = view.features
        self.view = view
        self._steps = np.array([f.step_us for f in features], np.int64)
        self._reach = np.array([f.window_us + f.delay_us for f in features], np.int64)
        self._delays = np.array([f.delay_us for f in features], np.int64)
        self._delayed = self._delays > 0
        self._sources = np.array([FIXED_CELLS + view.sources.index(source_of(f)) for f in features], np.intp)
        self._additive = np.array([f.statistic in _ADDITIVE for f in features], np.bool_)
        self._means = np.array([f.statistic is Statistic.MEAN for f in features], np.bool_)
        self._counts = np.array([f.statistic is Statistic.COUNT for f in features], np.bool_)
        self._others = [place for place, f in enumerate(features) if f.statistic not in _ADDITIVE]
        self._undefined = np.array([f.undefined for f in features])
        self._own = [np.flatnonzero(self._steps == lane.step_us) for lane in view.lanes]
        self._own[0] = np.flatnonzero(self._steps == EXACT_US)
        self._coarser = [np.flatnonzero(self._steps > lane.step_us) for lane in view.lanes]
        self._bounded = [(place, f.bounds) for place, f in enumerate(features) if f.bounds is not None]
        self._cells = [[_cells(lane, feature) for feature in features] for lane in view.lanes]

    def values(
        self, state: EntityState, arrived: Cells, at_us: int, *, own: Cells | None = None, own_tie: int | None = None
    ) -> Values:
        """Values of the view's features at `at_us`, shape (features,), in the order of `view.features`.

        `arrived` are events that the state may not hold yet, in any order; those that it holds are passed over.
        `own` are the rows of the request's own event, `own_tie` its id hash.
        """
        rows = self._pending(state, arrived, own, own_tie)
        floor = at_us - at_us % self._steps
        low = floor - self._reach
        high = np.where(self._delayed, floor - self._delays, at_us + 1)
        late = at_us < state.newest_us
        stretches = self._cut(at_us, low, high) if late else self._whole(low, high)
        raw_low = low if not late else np.where(self._steps == EXACT_US, low, np.maximum(low, self._head(at_us)))
        raw = self._raw_readers(late)
        n, totals = np.zeros(len(low)), np.zeros(len(low))
        _add_rows(rows, self._sources, low, high, n, totals)
        if len(raw) and len(state.raw):
            _add_rows(state.raw, self._sources[raw], raw_low[raw], high[raw], n, totals, raw)
        for stretch in stretches:
            self._add_tiles(state, stretch, n, totals)
        values = np.where(self._counts, n, totals)
        np.divide(totals, n, out=values, where=self._means & (n > 0))
        nothing = self._means & (n == 0)
        values[nothing] = self._undefined[nothing]
        for place in self._others:
            pieces = self._pieces(state, rows, place, int(low[place]), int(high[place]), raw_low, raw, stretches)
            values[place] = _value(self.view.features[place], pieces, at_us, own_tie)
        for place, (least, most) in self._bounded:
            values[place] = min(max(values[place], least), most)
        return values

    def _pending(self, state: EntityState, arrived: Cells, own: Cells | None, own_tie: int | None) -> Cells:
        """Events to count beside the state."""
        arrived_before = own_tie in arrived[:, TIE]
        if len(arrived):
            arrived = arrived[~state.holds(arrived[:, MARK])]
            if len(arrived):
                known = np.isin(arrived[:, TIE], state.recent) | np.isin(arrived[:, TIE], state.raw[:, TIE])
                arrived = arrived[~known]
        if own is None or not len(own):
            return arrived
        if arrived_before or own_tie in state.recent or own_tie in state.raw[:, TIE]:
            return arrived
        return np.concatenate([arrived, own]) if len(arrived) else own

    def _raw_readers(self, late: bool) -> Indices:
        return np.flatnonzero(~self._delayed | (self._steps == EXACT_US)) if late else self._own[0]

    def _head(self, at_us: int) -> Moments:
        """Where the finest tiles end of a window whose head is cut."""
        finest_us = self.view.lanes[1].step_us if len(self.view.lanes) > 1 else EXACT_US
        return np.full(len(self._steps), at_us - at_us % finest_us)

    def _whole(self, low: Moments, high: Moments) -> list[_Stretch]:
        """Nothing in the state is newer than the moment: heads need no cut."""
        ends = np.where(self._delayed, high, _FOREVER)
        return [_Stretch(lane, own, low[own], ends[own]) for lane, own in enumerate(self._own) if len(own)]

    def _cut(self, at_us: int, low: Moments, high: Moments) -> list[_Stretch]:
        """Windows end before the state does: whole tiles up to the moment, then ever finer ones.

        The second of the moment itself may hold later events, too; what of it is not there as it came is left out.
        """
        found = []
        second_us = at_us - at_us % SECOND_US
        ends = np.where(self._delayed, high, at_us - at_us % self._steps)
        for lane, own in enumerate(self._own):
            if len(own):
                found.append(
                    _Stretch(lane, own, low[own], np.minimum(high[own], second_us) if lane == 0 else ends[own])
                )
        lanes = self.view.lanes
        for lane in range(len(lanes) - 1):
            heads = self._coarser[lane]
            heads = heads[~self._delayed[heads] & (self._steps[heads] != EXACT_US)]
            coarser_us, end = lanes[lane + 1].step_us, at_us - at_us % lanes[lane].step_us
            begin = np.full(len(heads), at_us - at_us % coarser_us)
            found.append(_Stretch(lane, heads, begin, np.full(len(heads), end)))
        return found

    def _add_tiles(self, state: EntityState, stretch: _Stretch, n: Values, totals: Values) -> None:
        tiles = state.lanes[stretch.lane]
        if not len(tiles):
            return
        first = np.searchsorted(tiles.starts_us, stretch.low)
        end = np.searchsorted(tiles.starts_us, stretch.high)
        floats, cells = tiles.floats, self._cells[stretch.lane]
        for place, low, high in zip(stretch.features.tolist(), first.tolist(), end.tolist(), strict=True):
            if low < high and self._additive[place]:
                count_cell, sum_cell = cells[place]
                if count_cell:
                    n[place] += np.add.reduce(floats[low:high, count_cell])
                if sum_cell:
                    totals[place] += np.add.reduce(floats[low:high, sum_cell])

    def _pieces(
        self,
        state: EntityState,
        rows: Cells,
        place: int,
        low: int,
        high: int,
        raw_low: Moments,
        raw: Indices,
        stretches: list[_Stretch],
    ) -> _Pieces:
        """Everything in one feature's window."""
        source = source_of(self.view.features[place])
        events = [_between(rows, low, high)]
        if place in raw:
            events.append(_between(state.raw, int(raw_low[place]), high))
        tiles = []
        for stretch in stretches:
            for at in np.flatnonzero(stretch.features == place).tolist():
                lane = state.lanes[stretch.lane]
                bounds = np.searchsorted(lane.starts_us, [stretch.low[at], stretch.high[at]]).tolist()
                if bounds[0] < bounds[1]:
                    tiles.append((stretch.lane, lane.between(*bounds)))
        return _Pieces(self.view, source, int(self._sources[place]), np.concatenate(events), tiles)


def _cells(lane: Lane, feature: WindowedFeature) -> tuple[int, int]:
    """Cells of count and sum that the feature reads in the lane; 0 for none."""
    source = source_of(feature)
    count_cell = lane.places.get((source, Part.N, 0), 0) if feature.statistic is not Statistic.SUM else 0
    sum_cell = lane.places.get((source, Part.SUM, 0), 0) if feature.statistic is not Statistic.COUNT else 0
    return count_cell, sum_cell


def _add_rows(
    rows: Cells,
    sources: Indices,
    low: Moments,
    high: Moments,
    n: Values,
    totals: Values,
    places: Indices | None = None,
) -> None:
    if not len(rows):
        return
    times = rows[:, TIME]
    inside = (times >= low[:, None]) & (times < high[:, None])
    cells = rows.view(np.float64)[:, sources].T
    inside &= ~np.isnan(cells)
    counted, summed = inside.sum(axis=1), np.where(inside, cells, 0.0).sum(axis=1)
    if places is None:
        n += counted
        totals += summed
    else:
        n[places] += counted
        totals[places] += summed


def _between(rows: Cells, low: int, high: int) -> Cells:
    return rows[(rows[:, TIME] >= low) & (rows[:, TIME] < high)]


@dataclass(frozen=True)
class _Pieces:
    """What lies in a window: events as they came, and tiles by lane."""

    view: TileView
    source: Source
    column: int
    events: Cells
    tiles: list[tuple[int, Tiles]]

    @property
    def contributing(self) -> Cells:
        return self.events[~np.isnan(self.events[:, self.column].view(np.float64))]

    @property
    def numbers(self) -> Values:
        return self.contributing[:, self.column].view(np.float64)

    def cells(self, part: Part, half_life_us: int = 0) -> list[Values]:
        """The component's cells of all tiles."""
        return [t.floats[:, self._place(lane, part, half_life_us)] for lane, t in self.tiles]

    def entries(self, part: Part) -> Cells:
        """(event time, id hash, value) of everything that may be first or last, in the order of time."""
        events = self.contributing
        found = [np.column_stack([events[:, TIME], events[:, TIE], events[:, self.column]])]
        for lane, tiles in self.tiles:
            first, depth = self._place(lane, part), self.view.lanes[lane].depth(self.source, part)
            found.append(tiles.cells[:, first : first + 3 * depth].reshape(-1, 3))
        together = np.concatenate(found)
        return in_time(together[together[:, TIME] != NO_TIME])

    def sketches(self) -> list[Sketch]:
        """Sketches of the source's values."""
        hashes = self.events[:, self.column]
        found = [sketch_of(hashes[hashes != 0])]
        for lane, tiles in self.tiles:
            found += tiles.sketches[self.view.lanes[lane].distinct.index(self.source)]
        return found

    def _place(self, lane: int, part: Part, half_life_us: int = 0) -> int:
        return self.view.lanes[lane].places[self.source, part, half_life_us]

    def decayed(self, at_us: int, half_life_us: int) -> float:
        """The decayed count as of `at_us`."""
        ages = at_us - self.contributing[:, TIME]
        found = float(np.exp2(-ages / half_life_us).sum())
        for lane, tiles in self.tiles:
            # Negative for the tile that holds the moment: its cells are as of its end.
            ages = at_us - (tiles.starts_us + self.view.lanes[lane].step_us)
            counts = tiles.floats[:, self._place(lane, Part.DECAYED, half_life_us)]
            found += float((counts * np.exp2(-ages / half_life_us)).sum())
        return found


def _value(feature: WindowedFeature, pieces: _Pieces, at_us: int, own_tie: int | None) -> float:
    match feature.statistic:
        case Statistic.MIN | Statistic.MAX:
            part = Part(feature.statistic)
            extreme = np.fmin if part is Part.MIN else np.fmax
            found = extreme.reduce(np.concatenate([pieces.numbers, *pieces.cells(part)]), initial=np.nan)
            return feature.undefined if np.isnan(found) else float(found)
        case Statistic.VARIANCE | Statistic.STDDEV:
            return _spread(feature, pieces)
        case Statistic.DISTINCT:
            return cardinality(union(pieces.sketches()))
        case Statistic.DECAYED:
            return pieces.decayed(at_us, feature.half_life_us)
        case _:
            return _entry(feature, pieces, at_us, own_tie)


def _spread(feature: WindowedFeature, pieces: _Pieces) -> float:
    numbers = pieces.numbers
    n = np.concatenate([np.ones(len(numbers)), *pieces.cells(Part.N)])
    totals = np.concatenate([numbers, *pieces.cells(Part.SUM)])
    number = n.sum()
    if not number:
        return feature.undefined
    held = n > 0
    between = n[held] * (totals[held] / n[held] - totals.sum() / number) ** 2
    found = (between.sum() + sum(float(cells.sum()) for cells in pieces.cells(Part.M2))) / number
    return float(np.sqrt(found)) if feature.statistic is Statistic.STDDEV else float(found)


def _entry(feature: WindowedFeature, pieces: _Pieces, at_us: int, own_tie: int | None) -> float:
    assert feature.statistic in BEFORE_REQUEST
    entries = pieces.entries(Part.FIRST if feature.statistic is Statistic.FIRST else Part.LAST)
    if own_tie is not None:
        entries = entries[entries[:, 1] != own_tie]
    if len(entries) < feature.rank:
        return feature.undefined
    if feature.statistic is Statistic.SINCE_LAST:
        return float(at_us - entries[-1, 0]) / 1e6
    chosen = entries[0] if feature.statistic is Statistic.FIRST else entries[-feature.rank]
    return float(chosen[2:].view(np.float64)[0])
