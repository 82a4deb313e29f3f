"""Where the events and tiles of windows lie within what is kept of an entity.

A window takes its events from several places: those not in the state yet, the newest as they came, and tiles of every
size. Which stretch of each it takes depends on the moment alone, so the plan of a view is made once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flywheel.kernel.durations import SECOND_US
from flywheel.kernel.features import EXACT_US, WindowedFeature
from flywheel.kernel.plan import TileView
from flywheel.kernel.rows import Times

PENDING, RAW, FIRST_LANE = 0, 1, 2
"""Numbers of the places: events beside the state, its newest as they came, then its lanes."""


class Window(NamedTuple):
    """The bounds that features may share: `first_us` and `past_us` are those at the moment 0, where every step begins.

    At any other moment they lie as far from the step's beginning; a head that is not delayed, from the moment itself.
    """

    step_us: int
    first_us: int
    past_us: int

    @property
    def delayed(self) -> bool:
        return self.past_us <= 0


class Stretch(NamedTuple):
    """What a window takes from one place: `low` up to, not including, `high`."""

    place: int
    low: int
    high: int


class _Bound(NamedTuple):
    """The moment `floor(t, step) + offset`."""

    step_us: int
    offset_us: int = 0


class _Span(NamedTuple):
    """A stretch of time that a window takes from a place; without an end all that is there."""

    place: int
    window: int
    low: _Bound
    past: _Bound | None


def window_of(feature: WindowedFeature) -> Window:
    """The feature's window."""
    return Window(feature.step_us, *feature.bounds_us(0))


class Cut:
    """How windows are cut out of all places at any moment."""

    def __init__(self, windows: int, spans: Sequence[_Span]) -> None:
        bounds = list(dict.fromkeys(bound for span in spans for bound in (span.low, span.past) if bound is not None))
        self._windows = windows
        self._steps = np.array([bound.step_us for bound in bounds], np.int64)
        self._offsets = np.array([bound.offset_us for bound in bounds], np.int64)
        slots = {bound: slot for slot, bound in enumerate(bounds)}
        by_place: dict[int, list[tuple[int, int, int]]] = {}
        for span in spans:
            past = len(bounds) if span.past is None else slots[span.past]
            by_place.setdefault(span.place, []).append((span.window, slots[span.low], past))
        self._by_place = tuple(by_place.items())

    def stretches(self, times_us: Sequence[Times], at_us: int) -> list[list[Stretch]]:
        """By window, the stretches that are not empty; `times_us` are sorted times by place."""
        moments = at_us - at_us % self._steps + self._offsets
        found: list[list[Stretch]] = [[] for _ in range(self._windows)]
        for place, spans in self._by_place:
            times = times_us[place]
            if not len(times):
                continue
            at = times.searchsorted(moments).tolist()
            at.append(len(times))
            for window, low, past in spans:
                if at[low] < at[past]:
                    found[window].append(Stretch(place, at[low], at[past]))
        return found


def whole(view: TileView, windows: Sequence[Window]) -> Cut:
    """The cut at moments that nothing in the state is newer than: heads take all there is."""
    spans = []
    for number, window in enumerate(windows):
        low, past = _bounds(window)
        end = past if window.delayed else None
        spans.append(_Span(PENDING, number, low, past))
        if window.step_us == EXACT_US:
            spans.append(_Span(RAW, number, low, end))
        spans.append(_Span(FIRST_LANE + _lane(view, window), number, low, end))
    return Cut(len(windows), spans)


def headed(view: TileView, windows: Sequence[Window]) -> Cut:
    """The cut at moments before the end of the state: whole tiles up to the moment, then ever finer ones.

    The second of the moment itself may hold later events, too; what of it is not there as it came is left out.
    """
    spans = []
    for number, window in enumerate(windows):
        (low, past), lane = _bounds(window), _lane(view, window)
        spans.append(_Span(PENDING, number, low, past))
        if window.step_us == EXACT_US:
            spans.append(_Span(RAW, number, low, past))
            end = past if window.delayed else _Bound(SECOND_US)
        else:
            end = past if window.delayed else _Bound(window.step_us)
        spans.append(_Span(FIRST_LANE + lane, number, low, end))
        if lane and not window.delayed:
            spans.append(_Span(RAW, number, _Bound(view.lanes[1].step_us), past))
            steps = [finer.step_us for finer in view.lanes[: lane + 1]]
            spans += [
                _Span(FIRST_LANE + finer, number, _Bound(steps[finer + 1]), _Bound(steps[finer]))
                for finer in range(lane)
            ]
    return Cut(len(windows), spans)


def _bounds(window: Window) -> tuple[_Bound, _Bound]:
    head_us = window.step_us if window.delayed else EXACT_US
    return _Bound(window.step_us, window.first_us), _Bound(head_us, window.past_us)


def _lane(view: TileView, window: Window) -> int:
    """The lane whose tiles the window's tail moves by."""
    return 0 if window.step_us == EXACT_US else [lane.step_us for lane in view.lanes].index(window.step_us)
