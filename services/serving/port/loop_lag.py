"""How late the event loop is: as late as a timer comes, so late is what waits unread on a socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_EVERY_S = 0.02
_WEIGHT = 0.5
# Timers of the loop are kept to the millisecond.
_GRAIN_S = 0.001


class LoopLag:
    """Measures fifty times a second and tells, in seconds, the newest and the mean of the last few.

    The newest is told to be nothing again as soon as all that had waited is read.
    """

    def __init__(self, tell: Callable[[float, float], None]) -> None:
        self._tell = tell
        self._mean_s = 0.0
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measures from now on, on the running loop."""
        self._due_s = time.perf_counter() + _EVERY_S
        self._timer = asyncio.get_running_loop().call_later(_EVERY_S, self._tick)

    def stop(self) -> None:
        """Measures no more."""
        if self._timer:
            self._timer.cancel()

    def _tick(self) -> None:
        late_s = max(time.perf_counter() - self._due_s - _GRAIN_S, 0.0)
        self._mean_s += _WEIGHT * (late_s - self._mean_s)
        self._tell(late_s, self._mean_s)
        self.start()
        if late_s:
            # What comes due at once is done before the sockets are looked at, what comes due in that is done after.
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._caught_up)

    def _caught_up(self) -> None:
        self._tell(0.0, self._mean_s)
