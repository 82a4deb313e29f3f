"""Turns runs into what a result keeps: figures by stretch, and counts by second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from loadtests import histogram
from loadtests.generator.outcomes import Outcome, Run
from loadtests.generator.pulse import Pulse
from loadtests.measures import ANSWERED, MEASURES
from loadtests.plan import Stretch
from loadtests.result import Figures, Second, StretchResult
from loadtests.samples import Sample, stages_between

LAG_P99_MS = 5.0
STALL_MS = 100.0


def stretch_results(
    plan: Sequence[Stretch],
    runs: Mapping[str, Run],
    within_ms: Mapping[str, float],
    pulse: Pulse,
    samples: Sequence[Sample],
    began_s: float,
) -> list[StretchResult]:
    """Figures of every stretch; `began_s` is the test's moment 0 by `time.perf_counter`."""
    return [
        StretchResult(
            name=stretch.name,
            start_s=round(stretch.start_s, 3),
            end_s=round(stretch.end_s, 3),
            asked_per_s=round(stretch.per_s, 2),
            of_capacity=stretch.of_capacity,
            measured=stretch.measured,
            on_curve=stretch.on_curve,
            figures=[
                figures(
                    name,
                    run.between(stretch.start_s, stretch.end_s),
                    within_ms[name],
                    _stall_ms(pulse, stretch, began_s),
                )
                for name, run in runs.items()
            ],
            stages=stages_between(samples, began_s + stretch.start_s, began_s + stretch.end_s),
        )
        for stretch in plan
    ]


def figures(traffic: str, run: Run, within_ms: float, stall_ms: float) -> Figures:
    """Of one traffic in one stretch, in which the generator stood still for so long at most."""
    return Figures(
        traffic=traffic,
        asked=len(run.outcome),
        good=run.count(Outcome.GOOD),
        degraded=run.count(Outcome.DEGRADED),
        refused=run.count(Outcome.REFUSED),
        failed=run.count(Outcome.FAILED),
        unanswered=run.count(Outcome.UNANSWERED),
        measures={name: measure(run, within_ms) for name, measure in MEASURES.items()},
        lag_p99_ms=round(run.lag_ms(99), 3),
        void=void(run, stall_ms),
    )


def void(run: Run, stall_ms: float) -> str:
    """Why a stretch says nothing about the stack; empty when it does."""
    if not len(run.outcome):
        return "nothing was sent"
    if stall_ms > STALL_MS:
        return f"the generator itself stood still for {stall_ms:.0f} ms"
    if run.is_void(LAG_P99_MS):
        lag_ms = run.lag_ms(99)
        late = f"{lag_ms:.0f} ms" if np.isfinite(lag_ms) else "more than the test's time"
        return f"the generator could not keep up: every hundredth request left {late} late"
    return ""


def by_second(run: Run, within_ms: float) -> list[Second]:
    """Counts of each whole second of the run, by when requests were intended."""
    second = run.intended_s.astype(np.int64)
    latency_ms = (run.done_s - run.intended_s) * 1e3
    edges = np.searchsorted(second, np.arange(int(second[-1]) + 2)) if len(second) else np.zeros(1, np.int64)
    return [
        _second(at, run.outcome[low:high], latency_ms[low:high], within_ms)
        for at, (low, high) in enumerate(pairwise(edges))
        if high > low
    ]


def _second(at: int, outcome: NDArray[np.uint8], latency_ms: NDArray[np.float64], within_ms: float) -> Second:
    good = outcome == Outcome.GOOD
    counted = histogram.count(latency_ms[np.isin(outcome, ANSWERED)])
    seen = np.flatnonzero(counted)
    return Second(
        at_s=float(at),
        good=int(good.sum()),
        degraded=int((outcome == Outcome.DEGRADED).sum()),
        refused=int((outcome == Outcome.REFUSED).sum()),
        failed=int(np.isin(outcome, (Outcome.FAILED, Outcome.UNANSWERED)).sum()),
        in_time=int((latency_ms[good] <= within_ms).sum()),
        latencies={int(bucket): int(counted[bucket]) for bucket in seen},
    )


def _stall_ms(pulse: Pulse, stretch: Stretch, began_s: float) -> float:
    return pulse.longest_s(began_s + stretch.start_s, began_s + stretch.end_s) * 1e3
