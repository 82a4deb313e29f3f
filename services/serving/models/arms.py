"""Stops an arm whose model keeps failing, at once and in this process; the deployment log decides for good."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from flywheel.kernel.decision.record import Answered

STOPPED_AFTER = 5


class ArmFailures:
    """Counts the failures in a row of each version, from any thread; calls `stop` at the fifth.

    Whatever is answered together counts once, and not as a failure where the version gave any score in it. A version
    that gives no score so often, and one never in between, is broken, however much traffic it has. Of one that fails
    more seldom the monitor decides, which sees all replicas and the champion's failures as well.
    """

    def __init__(self, stop: Callable[[str, str], None]) -> None:
        self._stop = stop
        self._new: dict[str, str] = {}
        self._in_a_row: dict[str, int] = {}
        self._counting = threading.Lock()

    def failed(self, version: str, reason: str) -> None:
        """The version gave no score for something that is about to be answered."""
        with self._counting:
            self._new[version] = reason

    def answered(self, answers: Sequence[Answered]) -> None:
        """What was scored together is about to be answered."""
        if self._new or self._in_a_row:
            with self._counting:
                new, self._new = self._new, {}
            self._count({answer.model_version for answer in answers}, new)

    def scored(self, version: str) -> None:
        """The version, which answers nothing itself, gave scores."""
        if self._in_a_row:
            self._count({version}, {})

    def failed_alone(self, version: str, reason: str) -> None:
        """The version, which answers nothing itself, gave no score."""
        self._count(set(), {version: reason})

    def _count(self, well: set[str], new: dict[str, str]) -> None:
        broken = []
        with self._counting:
            for version in well:
                self._in_a_row.pop(version, None)
            for version, reason in new.items():
                if version in well:
                    continue
                self._in_a_row[version] = self._in_a_row.get(version, 0) + 1
                if self._in_a_row[version] >= STOPPED_AFTER:
                    del self._in_a_row[version]
                    broken.append((version, reason))
        for version, reason in broken:
            self._stop(version, f"{STOPPED_AFTER} failures in a row, the last one: {reason}")
