"""Folds that look at single events: which values there were, which event was the first and which the last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.features import BEFORE_REQUEST, Statistic, WindowedFeature
from flywheel.kernel.gathering import Found, Item, Values, item
from flywheel.kernel.number_folds import Chosen
from flywheel.kernel.plan import FIXED_CELLS, Part, Source, TileView, source_of
from flywheel.kernel.rows import TIE, TIME
from flywheel.kernel.sketch import cardinality, united
from flywheel.kernel.stretches import FIRST_LANE, Stretch
from flywheel.kernel.tiles import NO_TIME

Entry = tuple[int, int, float]
"""Event time, id hash and contribution."""


class Distincts:
    """How many different values there are."""

    def __init__(self, view: TileView, chosen: Chosen, windows: Mapping[int, int]) -> None:
        self._wanted = [_Distinct.of(view, place, windows[place], f) for place, f in chosen.items()]

    def fold(self, found: Found, values: Values) -> None:
        for wanted in self._wanted:
            values[wanted.feature] = wanted.number(found)


class _Distinct(NamedTuple):
    feature: int
    window: int
    cell: int
    columns: tuple[int, ...]
    """By lane, where the source's sketches are."""

    @classmethod
    def of(cls, view: TileView, place: int, window: int, feature: WindowedFeature) -> _Distinct:
        source = source_of(feature)
        columns = (lane.distinct.index(source) if source in lane.distinct else -1 for lane in view.lanes)
        return cls(place, window, FIXED_CELLS + view.sources.index(source), tuple(columns))

    def number(self, found: Found) -> float:
        hashes: list[NDArray[np.int64]] = []
        registers: list[NDArray[np.int64]] = []
        for place, low, high in found.stretches[self.window]:
            if place < FIRST_LANE:
                cells = found.cells[place][low:high, self.cell]
                hashes.append(cells[cells != 0])
            else:
                lane = place - FIRST_LANE
                exact, others = found.lanes[lane].sketches[self.columns[lane]].parts(low, high)
                hashes.append(exact)
                registers.append(others)
        return cardinality(united(hashes, registers)) if hashes else 0.0


class Ends:
    """First and last values, and how long ago the last was, the request's own event left out."""

    def __init__(self, view: TileView, chosen: Chosen, windows: Mapping[int, int]) -> None:
        groups: dict[tuple[int, Source, Part], dict[int, WindowedFeature]] = {}
        for place, feature in chosen.items():
            assert feature.statistic in BEFORE_REQUEST
            part = Part.FIRST if feature.statistic is Statistic.FIRST else Part.LAST
            groups.setdefault((windows[place], source_of(feature), part), {})[place] = feature
        self._groups = [_End(view, *key, features) for key, features in groups.items()]

    def fold(self, found: Found, values: Values) -> None:
        for group in self._groups:
            group.fold(found, values)


class _End:
    """Features that read the same end of the same window."""

    def __init__(self, view: TileView, window: int, source: Source, part: Part, features: Chosen) -> None:
        self._forward = part is Part.FIRST
        self._item: Item = item(view, window, source, part)
        # One more than is asked for: the request's own event is left out where it is among them.
        self._depth = max(feature.rank for feature in features.values()) + 1
        depths = (lane.depth(source, part) if (source, part, 0) in lane.places else 0 for lane in view.lanes)
        self._widths = (0, 0, *(3 * depth for depth in depths))
        self._features = [(place, f.statistic, f.rank, f.undefined) for place, f in features.items()]

    def fold(self, found: Found, values: Values) -> None:
        entries = [
            entry
            for stretch in found.stretches[self._item.window]
            for entry in self._nearest(found, stretch)
            if entry[1] != found.own_tie
        ]
        entries.sort(reverse=not self._forward)
        for place, statistic, rank, undefined in self._features:
            if len(entries) < rank:
                values[place] = undefined
            elif statistic is Statistic.SINCE_LAST:
                values[place] = (found.at_us - entries[0][0]) / 1e6
            else:
                values[place] = entries[rank - 1][2]

    def _nearest(self, found: Found, stretch: Stretch) -> list[Entry]:
        """At least as many entries of the stretch as are looked at, from its end inwards, if it has them."""
        place, low, high = stretch
        reach = self._depth
        while True:
            near = (low, min(low + reach, high)) if self._forward else (max(high - reach, low), high)
            entries = self._entries(found, place, *near)
            if len(entries) >= self._depth or near == (low, high):
                return entries
            reach *= 8

    def _entries(self, found: Found, place: int, low: int, high: int) -> list[Entry]:
        cells, floats, column = found.cells[place], found.floats[place], self._item.columns[place]
        if place < FIRST_LANE:
            times, ties = cells[low:high, TIME].tolist(), cells[low:high, TIE].tolist()
            of_events = zip(times, ties, floats[low:high, column].tolist(), strict=True)
            return [entry for entry in of_events if entry[2] == entry[2]]
        past = column + self._widths[place]
        times, ties = cells[low:high, column:past:3].ravel(), cells[low:high, column + 1 : past : 3].ravel()
        numbers = floats[low:high, column + 2 : past : 3].ravel()
        of_tiles = zip(times.tolist(), ties.tolist(), numbers.tolist(), strict=True)
        return [entry for entry in of_tiles if entry[0] != NO_TIME]
