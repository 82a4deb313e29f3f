"""Runs of load on a server, in the few forms that the figures of serving are made of."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

import numpy as np
import psutil

from benchmarks.serving_servers import AnyPool
from loadtests.generator.arrivals import poisson
from loadtests.generator.load import closed_loop, open_loop
from loadtests.generator.outcomes import Outcome, Run

WITHIN_MS = 50.0
FEW_CALLERS, CALLERS = 16, 64

_WARM_S = 3.0
_CLOSED_S = 4.0
_STEP_S = 5.0
_CONFIRM_S = 10.0
_STEPS = 5
_LOWEST_SHARE, _HIGHEST_SHARE = 0.25, 1.15
_TRIES = 2
_LOWERED = 0.9


class NotMeasured(Exception):
    """What is to be measured is not there; the message says what."""


def tell(line: str) -> None:
    """Says how far it is."""
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


@dataclass(frozen=True)
class Pace:
    """How long each kind of run takes, as a share of the usual; and how many runs said nothing."""

    share: float = 1.0
    void: list[Run] = field(default_factory=list)
    """Runs in which the load generator could not keep up, to be told and forgotten by whoever measures."""

    async def warm(self, pool: AnyPool) -> None:
        """Lets the server see some load first."""
        await closed_loop(pool, callers=FEW_CALLERS, seconds=_WARM_S * self.share)

    async def capacity(self, pool: AnyPool, *, callers: int = CALLERS, seconds: float = _CLOSED_S) -> Run:
        """Callers in a ring."""
        run = await closed_loop(pool, callers=callers, seconds=seconds * self.share)
        tell(f"  {callers} callers: {run.told()}")
        return run

    async def best_capacity(self, pool: AnyPool) -> Run:
        """Of few and of many callers in a ring, the better rate: each server at its best."""
        runs = [await self.capacity(pool, callers=callers) for callers in (FEW_CALLERS, CALLERS)]
        return max(runs, key=lambda run: run.rate_per_s)

    async def at(self, pool: AnyPool, rate_per_s: float, *, seconds: float = _STEP_S, seed: int = 1) -> Run:
        """Callers who know nothing of each other, at that rate."""
        seconds *= self.share
        run = await open_loop(pool, poisson(rate_per_s, seconds, seed), seconds=seconds)
        tell(f"  {run.told()}")
        if run.is_void():
            self.void.append(run)
        return run

    async def sustainable(self, pool: AnyPool, capacity_per_s: float) -> tuple[float, Run]:
        """The highest rate, to some percent, at which 99 of 100 of *all* requests are answered well within 50 ms.

        By bisection between shares of the capacity; a step that fails is tried once more, because a disturbance of the
        machine is no property of the server. The rate that is found must hold for longer, or is lowered until it does.
        """

        async def holds(rate_per_s: float, seconds: float) -> Run | None:
            for seed in range(_TRIES):
                run = await self.at(pool, rate_per_s, seconds=seconds, seed=seed)
                if run.percentile_ms(99) <= WITHIN_MS and not run.is_void():
                    return run
            return None

        return await highest(
            lambda rate: holds(rate, _STEP_S),
            lambda rate: holds(rate, _CONFIRM_S),
            capacity_per_s * _LOWEST_SHARE,
            capacity_per_s * _HIGHEST_SHARE,
        )

    async def percentiles(self, pool: AnyPool, rate_per_s: float, runs: int = 3) -> tuple[float, float]:
        """Median over runs of p50 and of p99 of all requests, in ms."""
        found = [await self.at(pool, rate_per_s, seed=seed) for seed in range(10, 10 + runs)]
        return median(run.percentile_ms(50) for run in found), median(run.percentile_ms(99) for run in found)


Holds = Callable[[float], Awaitable[Run | None]]


async def highest(holds: Holds, confirmed: Holds, low: float, high: float) -> tuple[float, Run]:
    """The highest rate that holds and is confirmed, and its run. Raises NotMeasured when none does."""
    # On a scale of ratios, so that every step tells as much.
    for _ in range(_STEPS):
        middle = float(np.sqrt(low * high))
        if await holds(middle) is not None:
            low = middle
        else:
            high = middle
    for _ in range(_STEPS):
        run = await confirmed(low)
        if run is not None:
            return low, run
        low *= _LOWERED
    raise NotMeasured("no rate keeps p99 within the bound")


@contextmanager
def busy_share(core: int) -> Iterator[Callable[[], float]]:
    """Afterwards: how much of the time a core had anything to do, whoever's it was, 0 to 1."""
    began = psutil.cpu_times(percpu=True)[core]
    ended = began

    def share() -> float:
        all_s = sum(ended) - sum(began)
        idle_s = ended.idle + ended.iowait - began.idle - began.iowait
        return round(1 - idle_s / all_s, 3) if all_s else 0.0

    try:
        yield share
    finally:
        ended = psutil.cpu_times(percpu=True)[core]


def worst_percentile_ms(run: Run, at: float, *outcomes: Outcome) -> float | None:
    """A percentile of the latency of requests that ended so; None where none did."""
    latency_ms = run.latency_ms(*outcomes)
    return round(float(np.percentile(latency_ms, at)), 3) if len(latency_ms) else None
