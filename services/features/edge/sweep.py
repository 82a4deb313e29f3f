"""Goes through the whole store in small steps, again and again: nothing in it waits for an event to be seen to."""

from __future__ import annotations

from collections.abc import Callable

from flywheel.contracts.metrics import EDGE_FORGOTTEN
from flywheel.kernel.ports import FeatureWriter
from services.features.edge.lane import EdgeLane

_REST_S = 600.0
"""Between two walks."""


class Sweep:
    """One walk at once, then one whenever it has rested; a step of it takes a millisecond or two."""

    def __init__(self, usecase: str, lane: EdgeLane, writer: FeatureWriter, steady_s: Callable[[], float]) -> None:
        self._usecase = usecase
        self._lane = lane
        self._writer = writer
        self._steady_s = steady_s
        self._after = 0
        self._passed_us: int | None = None
        self._rests_until_s = steady_s()

    def step(self, *, caught_up: bool) -> None:
        """Sees to the next entities, if it is time: clears their edges, takes away a time to live that an earlier
        version gave them and, on walks that began with a lane that had caught up with the log, forgets those of which
        no feature can see anything any more.

        Raises Unavailable; they then come again.
        """
        if self._steady_s() < self._rests_until_s:
            return
        if not self._after:
            self._passed_us = self._lane.take_passed_us() if caught_up else None
        keys, following = self._writer.entities(self._after)
        self._lane.sweep(keys)
        if self._passed_us is not None:
            EDGE_FORGOTTEN.labels(self._usecase).inc(self._writer.forget(keys, self._passed_us))
        self._after = following
        if not following:
            self._rests_until_s = self._steady_s() + _REST_S
