"""Stops an arm whose model keeps failing, at once and in this process; the deployment log decides for good."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

STOPPED_AFTER = 5
WITHIN_S = 60.0


class ArmFailures:
    """Counts the failures of each version, from any thread; calls `stop` when a version fails too often.

    A version that fails this often among few requests is broken; for one that fails seldom the monitor, which sees
    all replicas and the champion's failures as well, decides.
    """

    def __init__(self, stop: Callable[[str, str], None], steady_s: Callable[[], float]) -> None:
        self._stop = stop
        self._steady_s = steady_s
        self._newest: dict[str, deque[float]] = {}
        self._counting = threading.Lock()

    def failed(self, version: str, reason: str) -> None:
        """The version gave no score."""
        now_s = self._steady_s()
        with self._counting:
            newest = self._newest.setdefault(version, deque(maxlen=STOPPED_AFTER))
            newest.append(now_s)
            broken = len(newest) == STOPPED_AFTER and now_s - newest[0] <= WITHIN_S
            if broken:
                del self._newest[version]
        if broken:
            self._stop(version, f"{STOPPED_AFTER} failures within {WITHIN_S:g} s, the last one: {reason}")
