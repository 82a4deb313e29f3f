"""Folds of numbers: each does all features of its kind in a view at once, whatever their windows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.features import Statistic, WindowedFeature
from flywheel.kernel.gathering import Found, Item, Values, gathered, item
from flywheel.kernel.plan import Part, TileView, source_of
from flywheel.kernel.rows import TIME
from flywheel.kernel.stretches import FIRST_LANE

Indices = NDArray[np.intp]
Chosen = Mapping[int, WindowedFeature]
"""Features of the kind that a fold is for, by their place among the view's."""

_ZERO, _NAN = np.zeros(1), np.full(1, np.nan)


class Totals:
    """Counts, sums and means."""

    def __init__(self, view: TileView, chosen: Chosen, windows: Mapping[int, int]) -> None:
        items: dict[Item, int] = {}

        def slots(part: Part, *statistics: Statistic) -> Indices:
            wanted = [(place, f) for place, f in chosen.items() if f.statistic in statistics]
            found = [item(view, windows[place], source_of(f), part) for place, f in wanted]
            return np.array([items.setdefault(one, len(items)) for one in found], np.intp)

        self._plain_slots = np.concatenate([slots(Part.N, Statistic.COUNT), slots(Part.SUM, Statistic.SUM)])
        self._plain = np.concatenate([_places(chosen, Statistic.COUNT), _places(chosen, Statistic.SUM)])
        self._counts, self._sums = slots(Part.N, Statistic.MEAN), slots(Part.SUM, Statistic.MEAN)
        self._means = _places(chosen, Statistic.MEAN)
        self._undefined = np.array([chosen[place].undefined for place in self._means.tolist()])
        self._items = tuple(items)

    def fold(self, found: Found, values: Values) -> None:
        totals = np.add.reduceat(*gathered(found, self._items, _ZERO))
        values[self._plain] = totals[self._plain_slots]
        if len(self._means):
            values[self._means] = _ratios(totals[self._sums], totals[self._counts], self._undefined)


class Extremes:
    """Smallest or largest values."""

    def __init__(self, view: TileView, chosen: Chosen, windows: Mapping[int, int], part: Part) -> None:
        self._ufunc = np.fmin if part is Part.MIN else np.fmax
        self._items = tuple(item(view, windows[place], source_of(f), part) for place, f in chosen.items())
        self._places = np.array(list(chosen), np.intp)
        self._undefined = np.array([f.undefined for f in chosen.values()])

    def fold(self, found: Found, values: Values) -> None:
        extremes = self._ufunc.reduceat(*gathered(found, self._items, _NAN))
        values[self._places] = np.where(np.isnan(extremes), self._undefined, extremes)


class Spreads:
    """Variances and standard deviations, after Chan, Golub, LeVeque (1979): squares about the parts' means, and of the
    parts' means about the common one."""

    def __init__(self, view: TileView, chosen: Chosen, windows: Mapping[int, int]) -> None:
        self._items = {
            part: tuple(item(view, windows[place], source_of(f), part) for place, f in chosen.items())
            for part in (Part.N, Part.SUM, Part.M2)
        }
        self._places = np.array(list(chosen), np.intp)
        self._roots = np.array([f.statistic is Statistic.STDDEV for f in chosen.values()], np.bool_)
        self._undefined = np.array([f.undefined for f in chosen.values()])

    def fold(self, found: Found, values: Values) -> None:
        n, firsts = gathered(found, self._items[Part.N], _ZERO)
        totals, _ = gathered(found, self._items[Part.SUM], _ZERO)
        m2, _ = gathered(found, self._items[Part.M2], _ZERO)
        number = np.add.reduceat(n, firsts)
        common = _ratios(np.add.reduceat(totals, firsts), number, np.zeros(len(number)))
        apart = _ratios(totals, n, np.zeros(len(n))) - common.repeat(np.diff(firsts, append=len(n)))
        spreads = _ratios(np.add.reduceat(m2 + n * apart**2, firsts), number, self._undefined)
        np.sqrt(spreads, out=spreads, where=self._roots & (number > 0))
        values[self._places] = spreads


class Decays:
    """Decayed counts as of the moment."""

    def __init__(self, view: TileView, chosen: Chosen, windows: Mapping[int, int]) -> None:
        self._items = tuple(
            item(view, windows[place], source_of(f), Part.DECAYED, f.half_life_us) for place, f in chosen.items()
        )
        # The cells of a tile are as of its end.
        self._ends_us = (0, 0, *(lane.step_us for lane in view.lanes))
        self._places = np.array(list(chosen), np.intp)
        self._half_lives = [f.half_life_us for f in chosen.values()]

    def fold(self, found: Found, values: Values) -> None:
        counts, firsts = gathered(found, self._items, _ZERO)
        lives = np.empty(len(counts))
        for wanted, first, half_life_us in zip(self._items, firsts, self._half_lives, strict=True):
            lives[first] = 0.0
            at = first + 1
            for place, low, high in found.stretches[wanted.window]:
                times = found.cells[place][low:high, TIME if place < FIRST_LANE else 0]
                since = times + (self._ends_us[place] - found.at_us)
                np.divide(since, half_life_us, out=lives[at : at + high - low])
                at += high - low
        values[self._places] = np.add.reduceat(counts * np.exp2(lives), firsts)


def _places(chosen: Chosen, statistic: Statistic) -> Indices:
    return np.array([place for place, feature in chosen.items() if feature.statistic is statistic], np.intp)


def _ratios(totals: Values, n: Values, undefined: Values) -> Values:
    """Totals per event; where there is none, `undefined`."""
    found = undefined.copy()
    np.divide(totals, n, out=found, where=n > 0)
    return found
