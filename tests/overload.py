"""A model of one serving process under any load, as a discrete-event simulation; seeded, so that it repeats exactly.

One core does everything, as an event loop does: it reads what has come, refuses or admits it, prepares what was
admitted, waits for the feature store meanwhile, scores and answers. While it works nobody is read.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from flywheel.kernel.admission import Admission, Criticality, Reason


@dataclass(frozen=True)
class Cost:
    """Seconds of the core, and of the wait for the feature store."""

    refuse_s: float = 4e-6
    prepare_s: float = 40e-6
    turn_s: float = 200e-6
    answer_s: float = 60e-6
    pause_s: float = 0.0
    """Others on the machine take the core away for so long on average: half of the times that it was idle, and..."""
    slice_s: float = 0.01
    """... after each time that it worked for so long."""
    spread: float = 0.0
    """Share of the costs of a request that varies: 0 for none, 1 for an exponential."""

    @property
    def capacity(self) -> float:
        """Requests a second, when many are answered together."""
        return 1 / (self.prepare_s + self.answer_s)


@dataclass(frozen=True)
class Load:
    """Requests of one criticality: so many a second, from a time until another."""

    per_s: float
    criticality: Criticality = Criticality.DEFAULT
    begins_s: float = 0.0
    ends_s: float = math.inf


@dataclass
class Fate:
    """What became of one request, at what times."""

    arrived_s: float
    criticality: Criticality
    refused_s: float = math.nan
    answered_s: float = math.nan

    @property
    def took_s(self) -> float:
        return self.answered_s - self.arrived_s


@dataclass
class Run:
    """What became of all requests, and how the limit moved."""

    fates: list[Fate]
    limits: list[tuple[float, float]] = field(default_factory=list)

    def answered(self, begins_s: float = 0.0, ends_s: float = math.inf) -> list[Fate]:
        """Requests that came in this time and were answered."""
        return [f for f in self.came(begins_s, ends_s) if not math.isnan(f.answered_s)]

    def came(self, begins_s: float = 0.0, ends_s: float = math.inf) -> list[Fate]:
        """Requests that came in this time."""
        return [f for f in self.fates if begins_s <= f.arrived_s < ends_s]

    def goodput(self, within_s: float, begins_s: float, ends_s: float) -> float:
        """Requests a second answered in time."""
        return sum(f.took_s <= within_s for f in self.answered(begins_s, ends_s)) / (ends_s - begins_s)

    def p99_s(self, begins_s: float = 0.0, ends_s: float = math.inf) -> float:
        """How long the slowest of a hundred answered requests took."""
        return float(np.percentile([f.took_s for f in self.answered(begins_s, ends_s)], 99))


def simulate(
    admission: Admission,
    loads: Sequence[Load],
    *,
    until_s: float,
    cost: Callable[[float], Cost] = lambda _: Cost(),
    store_s: Callable[[float], float] = lambda _: 3e-4,
    seed: int = 1,
) -> Run:
    """The process under these loads. `cost` and `store_s` are functions of time."""
    rng = np.random.default_rng(seed)
    run = Run(_arrivals(loads, until_s, rng))
    waiting: list[tuple[float, int, float, list[Fate]]] = []
    queue = deque(run.fates)
    now_s, lag_s, tick_s, turn, worked_s = 0.0, 0.0, 0.0, 0, 0.0
    while queue or waiting:
        next_s = min(queue[0].arrived_s if queue else math.inf, waiting[0][0] if waiting else math.inf)
        while tick_s <= max(now_s, next_s):
            # A timer of the loop is late by what the loop was busy with, and so is a read.
            lag_s += 0.3 * (max(now_s - tick_s, 0.0) - lag_s)
            tick_s = max(now_s, tick_s) + 0.01
        price = cost(now_s)
        if price.pause_s and (worked_s > price.slice_s or (next_s > now_s and rng.random() < 0.5)):
            worked_s = 0.0
            now_s = max(now_s, next_s) + float(rng.exponential(price.pause_s))
        now_s = max(now_s, next_s)
        began_s, turn, read_s, cohort = now_s, turn + 1, now_s, []
        while queue and queue[0].arrived_s <= began_s:
            fate = queue.popleft()
            now_s += price.refuse_s
            if admission.refusal(fate.criticality, now_s):
                fate.refused_s = now_s
            else:
                cohort.append(fate)
        if cohort:
            now_s += _drawn(rng, price.prepare_s, len(cohort), price.spread)
            heapq.heappush(waiting, (now_s + store_s(now_s), turn, read_s, cohort))
        while waiting and waiting[0][0] <= now_s:
            _, _, read_s, ready = heapq.heappop(waiting)
            now_s += price.turn_s + _drawn(rng, price.answer_s, len(ready), price.spread)
            for fate in ready:
                fate.answered_s = now_s
                admission.ended(now_s - read_s + lag_s, now_s)
        worked_s += now_s - began_s
        run.limits.append((now_s, admission.limit))
    return run


def simulate_callers(
    admission: Admission, *, callers: int, patience_s: float, together_s: float, until_s: float
) -> tuple[int, Counter[Reason]]:
    """So many callers who ask again once they are answered, or 2 ms after a refusal, and how they fared.

    All that is under way is answered `together_s` after it began, however much it is.
    """
    events = [(caller * 1e-5, caller, math.nan) for caller in range(callers)]
    answered, refused = 0, Counter[Reason]()
    while events[0][0] <= until_s:
        now_s, caller, began_s = heapq.heappop(events)
        if not math.isnan(began_s):
            admission.ended(now_s - began_s, now_s)
            answered += 1
            heapq.heappush(events, (now_s + 1e-5, caller, math.nan))
        elif reason := admission.refusal(Criticality.DEFAULT, now_s, patience_s=patience_s):
            refused[reason] += 1
            heapq.heappush(events, (now_s + 2e-3, caller, math.nan))
        else:
            heapq.heappush(events, (now_s + together_s, caller, now_s))
    return answered, refused


def _arrivals(loads: Sequence[Load], until_s: float, rng: np.random.Generator) -> list[Fate]:
    fates = []
    for load in loads:
        length_s = min(load.ends_s, until_s) - load.begins_s
        times = load.begins_s + length_s * np.sort(rng.random(rng.poisson(load.per_s * length_s)))
        fates += [Fate(float(at_s), load.criticality) for at_s in times]
    return sorted(fates, key=lambda fate: fate.arrived_s)


def _drawn(rng: np.random.Generator, each_s: float, count: int, spread: float) -> float:
    fixed_s = each_s * count * (1 - spread)
    return fixed_s + float(rng.exponential(each_s * spread, count).sum()) if spread else fixed_s
