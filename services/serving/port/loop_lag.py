"""How late the event loop is: as late as a timer comes, so late is what waits unread on a socket."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

_EVERY_S = 0.02
_WEIGHT = 0.5
# Timers of the loop are kept to the millisecond.
_GRAIN_S = 0.001


class LoopLag:
    """Measures fifty times a second and tells the mean of the last few, in seconds."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell
        self._mean_s = 0.0
        self._due_s = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measures from now on, on the running loop."""
        self._due_s = time.perf_counter() + _EVERY_S
        self._timer = asyncio.get_running_loop().call_later(_EVERY_S, self._tick)

    def stop(self) -> None:
        """Measures no more."""
        if self._timer:
            self._timer.cancel()
            self._due_s = math.inf

    def overdue_s(self, now_s: float) -> float:
        """For how long at most what is read now has waited, at that time of `time.perf_counter`.

        Loops look at their sockets before their timers: a timer that is late shows that these were not looked at.
        """
        late_s = now_s - self._due_s - _GRAIN_S
        return late_s if late_s > 0 else 0.0

    def _tick(self) -> None:
        self._mean_s += _WEIGHT * (self.overdue_s(time.perf_counter()) - self._mean_s)
        self._tell(self._mean_s)
        self.start()
