"""How far a streaming job is: until which moment everything the broker acknowledged has been processed."""

from __future__ import annotations

from collections import deque

from services.features.positions import Positions


class ProgressTracker:
    """Compares what the broker held at known moments with what the job has processed since.

    The broker's end offsets, asked for at a moment, cover everything acknowledged before it. Once the job has
    processed up to them, all of that is visible. Moments wait in order until their offsets are reached.
    """

    def __init__(self, samples: int = 4096) -> None:
        self._waiting: deque[tuple[int, dict[tuple[str, int], int]]] = deque(maxlen=samples)
        self._ends: Positions = {}
        self._processed: Positions | None = None
        self.visible_until_us: int | None = None
        """None until the job is known to have processed everything up to some moment."""

    def sampled(self, at_us: int, ends: Positions) -> None:
        """The broker's end offsets, asked for no earlier than `at_us`."""
        self._ends = ends
        self._waiting.append((at_us, dict(ends)))
        self._settle()

    def processed(self, offsets: Positions) -> None:
        """The job has finished everything below these offsets."""
        self._processed = offsets
        self._settle()

    @property
    def backlog(self) -> int:
        """Records that the broker held when last asked and the job has not finished."""
        done = self._processed or {}
        return sum(max(end - done.get(partition, 0), 0) for partition, end in self._ends.items())

    def _settle(self) -> None:
        if self._processed is None:
            return
        while self._waiting and _reached(self._waiting[0][1], self._processed):
            self.visible_until_us = self._waiting.popleft()[0]


def _reached(ends: Positions, processed: Positions) -> bool:
    return all(processed.get(partition, 0) >= end for partition, end in ends.items())
