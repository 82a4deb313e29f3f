"""Keeps work beside the answers to a share of one core: it rests between its steps."""

from __future__ import annotations

import time
from collections.abc import Callable

Rest = Callable[[], None]


def at_once() -> None:
    """No rest."""


class Pacing:
    """The work of the thread that makes this object, from then on; `sleep` takes seconds.

    >>> spent_s, slept_s = iter([10.0, 10.02, 10.02, 10.05, 10.05]), []
    >>> pacing = Pacing(0.25, spent_s=lambda: next(spent_s), sleep=slept_s.append)
    >>> pacing.rest(), pacing.rest()
    (None, None)
    >>> [round(each, 3) for each in slept_s]
    [0.06, 0.09]
    """

    def __init__(
        self,
        share: float,
        *,
        spent_s: Callable[[], float] = time.thread_time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._others_to_it = 1 / share - 1
        self._spent_s = spent_s
        self._sleep = sleep
        self._rested_at_s = spent_s()

    def rest(self) -> None:
        """Sleeps until what the thread worked since it rested last is no more than its share."""
        self._sleep((self._spent_s() - self._rested_at_s) * self._others_to_it)
        self._rested_at_s = self._spent_s()
