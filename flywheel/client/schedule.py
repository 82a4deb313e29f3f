"""When on the wall clock something of the event clock is due."""

from __future__ import annotations

from collections.abc import Callable

TOLERANCE_S = 1.0
"""Being late by less is caught up with; by more, event time waits."""


class Schedule:
    """Maps event time to wall time at a constant speed, never into the wall clock's future.

    `monotonic` and `wall` return seconds; `speed` is event seconds per wall second.
    """

    def __init__(
        self, speed: float, first_us: int, *, monotonic: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._speed = speed
        self._first_us = first_us
        self._monotonic = monotonic
        self._wall = wall
        self._anchor_s = monotonic()
        self._slipped_s = 0.0
        self._lag_s = 0.0

    @property
    def behind_s(self) -> float:
        """By how much events come later than was planned at the start; only grows, but for what can be caught up."""
        return self._slipped_s + max(0.0, self._lag_s)

    def wait_s(self, at_us: int) -> float:
        """Seconds until `at_us` is due; negative when it should have happened already."""
        until_due_s = self._anchor_s + (at_us - self._first_us) / 1e6 / self._speed - self._monotonic()
        until_past_s = at_us / 1e6 - self._wall()
        if until_past_s > max(0.0, until_due_s):
            # Event time has caught up with the present and goes on at its pace; that is no delay.
            self._anchor_s += until_past_s - until_due_s
            return until_past_s
        self._lag_s = -until_due_s
        return until_due_s

    def slip(self) -> bool:
        """Lets event time wait if it is too far behind to catch up; tells whether it had to."""
        if self._lag_s <= TOLERANCE_S:
            return False
        self._anchor_s += self._lag_s
        self._slipped_s += self._lag_s
        self._lag_s = 0.0
        return True
