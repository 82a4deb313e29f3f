"""Load on a server, open or closed: sends requests by a pool of connections and writes down how each ended.

Open: requests leave by a schedule, whatever became of the earlier ones, and latency counts from the scheduled moment,
so that a server that stalls cannot hide it. Closed: so many callers, each asking again as soon as it is answered.
"""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from loadtests.generator.arrivals import Schedule
from loadtests.generator.outcomes import Outcome, Run, run_of
from loadtests.generator.precise_timer import PreciseTimer

_LEAD_S = 0.05
_AFTER_REFUSAL_S = 0.01


class Sink(Protocol):
    """Whoever is told how requests ended."""

    def done(self, number: int, outcome: Outcome, now_s: float) -> None:
        """The request of that number ended, by `time.perf_counter`."""

    def settled(self) -> None:
        """All that one read brought has been told."""


class Nobody:
    """Told before a run begins and after it has ended."""

    def done(self, number: int, outcome: Outcome, now_s: float) -> None:
        del number, outcome, now_s

    def settled(self) -> None:
        pass


class Pool(Protocol):
    """Connections to one server, open."""

    sink: Sink

    def send(self, numbers: Sequence[int]) -> None:
        """Sends the requests of these numbers, or as soon as the connections take them."""


class _OpenLoop:
    def __init__(self, pool: Pool, schedule: Schedule) -> None:
        self._pool = pool
        self._due_s: list[float] = schedule.tolist()
        self._count = len(self._due_s)
        self._next = 0
        self._start_s = 0.0
        self._left = self._count
        self._ended = asyncio.get_running_loop().create_future()
        self.sent_s = [math.nan] * self._count
        self.done_s = [math.nan] * self._count
        self.outcome = [0] * self._count

    def done(self, number: int, outcome: Outcome, now_s: float) -> None:
        if self.outcome[number]:
            return
        self.done_s[number] = now_s - self._start_s
        self.outcome[number] = outcome
        self._left -= 1

    def settled(self) -> None:
        if not self._left and not self._ended.done():
            self._ended.set_result(None)

    async def run(self, patience_s: float, start_s: float | None) -> None:
        self._pool.sink = self
        self._start_s = time.perf_counter() + _LEAD_S if start_s is None else start_s
        self._timer = PreciseTimer(self._send_due)
        try:
            self._timer.set(self._start_s + self._due_s[0])
            last_s = self._start_s + self._due_s[-1] - time.perf_counter()
            await asyncio.wait((self._ended,), timeout=last_s + patience_s)
        finally:
            self._timer.close()

    def _send_due(self) -> None:
        now_s = time.perf_counter() - self._start_s
        due_s, first, last, count = self._due_s, self._next, self._next, self._count
        while last < count and due_s[last] <= now_s:
            self.sent_s[last] = now_s
            last += 1
        if last > first:
            self._next = last
            self._pool.send(range(first, last))
        if last < count:
            self._timer.set(self._start_s + due_s[last])


class _ClosedLoop:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._again: list[int] = []
        self._until_s = math.inf
        self._start_s = 0.0
        self.sent_s: list[float] = []
        self.done_s: list[float] = []
        self.outcome: list[int] = []

    def done(self, number: int, outcome: Outcome, now_s: float) -> None:
        if self.outcome[number]:
            return
        self.done_s[number] = now_s - self._start_s
        self.outcome[number] = outcome
        if now_s >= self._until_s:
            return
        if outcome is Outcome.REFUSED:
            # Asking at once what was just refused would be no caller but an attack.
            asyncio.get_running_loop().call_later(_AFTER_REFUSAL_S, self._ask_later)
        else:
            self._again.append(len(self.sent_s))
            self._note(now_s)

    def _ask_later(self) -> None:
        now_s = time.perf_counter()
        if now_s < self._until_s:
            self._note(now_s)
            self._pool.send([len(self.sent_s) - 1])

    def settled(self) -> None:
        if self._again:
            numbers, self._again = self._again, []
            self._pool.send(numbers)

    async def run(self, callers: int, seconds: float, patience_s: float) -> None:
        self._pool.sink = self
        self._start_s = time.perf_counter()
        self._until_s = self._start_s + seconds
        for _ in range(callers):
            self._note(self._start_s)
        self._pool.send(range(callers))
        await asyncio.sleep(seconds)
        until_s = time.perf_counter() + patience_s
        while not all(self.outcome[-callers:]) and time.perf_counter() < until_s:
            await asyncio.sleep(0.01)

    def _note(self, now_s: float) -> None:
        self.sent_s.append(now_s - self._start_s)
        self.done_s.append(math.nan)
        self.outcome.append(0)


async def open_loop(
    pool: Pool, schedule: Schedule, *, seconds: float, patience_s: float = 2.0, start_s: float | None = None
) -> Run:
    """The run of that schedule, which lasts so many seconds; answers later than the patience after it count as none.

    `start_s`: its moment 0 by `time.perf_counter`, for several that are to begin together; without it, now.
    """
    loop = _OpenLoop(pool, schedule)
    with _undisturbed():
        began_s, cpu_s = time.perf_counter(), time.process_time()
        await loop.run(patience_s, start_s)
        share = (time.process_time() - cpu_s) / (time.perf_counter() - began_s)
    sent_s = [each if each == each else math.inf for each in loop.sent_s]
    return run_of(schedule, sent_s, loop.done_s, loop.outcome, seconds=seconds, cpu_share=share)


async def closed_loop(pool: Pool, *, callers: int, seconds: float, patience_s: float = 2.0) -> Run:
    """The run of so many callers who ask for so many seconds; what was still under way then is left out.

    A caller who is refused asks again after ten milliseconds.
    """
    loop = _ClosedLoop(pool)
    with _undisturbed():
        began_s, cpu_s = time.perf_counter(), time.process_time()
        await loop.run(callers, seconds, patience_s)
        share = (time.process_time() - cpu_s) / (time.perf_counter() - began_s)
    whole = run_of(loop.sent_s, loop.sent_s, loop.done_s, loop.outcome, seconds=seconds, cpu_share=share)
    within = (whole.done_s <= seconds) | (whole.outcome == Outcome.UNANSWERED)
    return whole.chosen(within, seconds=seconds)


async def one(pool: Pool, number: int, patience_s: float = 5.0) -> Outcome:
    """How the request of that number ended, alone. Raises TimeoutError."""
    only = _Only(number)
    pool.sink = only
    pool.send([number])
    async with asyncio.timeout(patience_s):
        return await only.ended


class _Only(Nobody):
    def __init__(self, number: int) -> None:
        self._number = number
        self.ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def done(self, number: int, outcome: Outcome, now_s: float) -> None:
        del now_s
        if number == self._number and not self.ended.done():
            self.ended.set_result(outcome)


@contextmanager
def _undisturbed() -> Iterator[None]:
    was_enabled = gc.isenabled()
    if was_enabled:
        gc.collect()
    gc.disable()
    try:
        yield
    finally:
        # Of runs side by side the first to begin collects again.
        if was_enabled:
            gc.enable()
