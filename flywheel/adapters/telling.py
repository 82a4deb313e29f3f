"""Tells how far long work over entities is, every other second and at its end."""

from __future__ import annotations

import time
from collections.abc import Callable

_EVERY_S = 2.0

Tell = Callable[[str], None]
"""Shows a line to whoever waits."""


class EntityCount:
    """How many entities of `what` are done."""

    def __init__(self, what: str, tell: Tell) -> None:
        self._what = what
        self._tell = tell
        self._done = 0
        self._told_s = time.monotonic()

    def add(self, number: int) -> None:
        """So many more are done."""
        self._done += number
        if time.monotonic() - self._told_s > _EVERY_S:
            self._told_s = time.monotonic()
            self._tell(f"{self._what}: {self._done:,} entities")

    def finish(self) -> int:
        """All are done; how many that were."""
        self._tell(f"{self._what}: {self._done:,} entities, all of them")
        return self._done
