"""Whether the generator itself stood still, and when: a beat every few milliseconds that notes which ones came late."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

_EVERY_S = 0.01
_NOTED_S = 0.03


class Pulse:
    """Beats while it is entered. Requests that were due while it did not beat say nothing about the server."""

    def __init__(self) -> None:
        self.stalls: list[tuple[float, float]] = []
        """When each began, by `time.perf_counter`, and how many seconds it lasted."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def _beat(self) -> None:
        last_s = time.perf_counter()
        while True:
            await asyncio.sleep(_EVERY_S)
            now_s = time.perf_counter()
            if now_s - last_s - _EVERY_S > _NOTED_S:
                self.stalls.append((last_s, now_s - last_s - _EVERY_S))
            last_s = now_s

    def longest_s(self, start_s: float, end_s: float) -> float:
        """The longest stall that touched that stretch of time."""
        return max((took for at, took in self.stalls if at < end_s and at + took > start_s), default=0.0)
