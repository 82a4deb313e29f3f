"""Results of load tests as tests need them: made up, but whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loadtests.findings import by_second, figures
from loadtests.generator.arrivals import poisson
from loadtests.generator.outcomes import Outcome, Run, run_of
from loadtests.result import (
    FaultResult,
    Gauges,
    Result,
    StageFigures,
    StretchResult,
    TrafficResult,
    Usage,
    Verdict,
)

WITHIN_MS = 50.0


def run_at(
    rate_per_s: float,
    seconds: float,
    *,
    median_ms: float = 2.0,
    refused_share: float = 0.0,
    start_s: float = 0.0,
    seed: int = 1,
    lag_ms: float = 0.0,
) -> Run:
    """Poisson requests with lognormal latencies, some of them refused."""
    rng = np.random.default_rng(seed)
    intended: NDArray[np.float64] = start_s + poisson(rate_per_s, seconds, seed)
    latency_s = np.exp(rng.normal(np.log(median_ms), 0.5, len(intended))) / 1e3
    refused = rng.random(len(intended)) < refused_share
    outcome = np.where(refused, Outcome.REFUSED, Outcome.GOOD)
    return run_of(
        intended,
        (intended + lag_ms / 1e3).tolist(),
        (intended + latency_s + lag_ms / 1e3).tolist(),
        outcome.tolist(),
        seconds=seconds,
        cpu_share=0.2,
    )


def result_of(
    steps: dict[str, float],
    *,
    seconds: float = 5.0,
    median_ms: float = 2.0,
    refused_share: float = 0.0,
    seed: int = 1,
    lag_ms: float = 0.0,
    title: str = "Made up",
) -> Result:
    """A result with one stretch for each name, at its rate."""
    stretches, parts = [], []
    for place, (name, rate_per_s) in enumerate(steps.items()):
        start_s = place * seconds
        run = run_at(
            rate_per_s,
            seconds,
            median_ms=median_ms,
            refused_share=refused_share,
            start_s=start_s,
            seed=seed * 100 + place,
            lag_ms=lag_ms,
        )
        parts.append(run)
        stretches.append(
            StretchResult(
                name=name,
                start_s=start_s,
                end_s=start_s + seconds,
                asked_per_s=rate_per_s,
                of_capacity=rate_per_s / 1_000,
                measured=True,
                on_curve=True,
                figures=[figures("decisions", run, WITHIN_MS, 0.0)],
                stages=[StageFigures(stage="features", decisions=100, mean_ms=0.5, p50_ms=0.4, p95_ms=0.9, p99_ms=1.2)],
            )
        )
    end_s = len(steps) * seconds
    ticks = [float(at) for at in range(int(end_s))]
    return Result(
        scenario="step",
        title=title,
        about="What tests need.",
        declared='title = "Made up"',
        began_at="2026-11-22T00:00:00+00:00",
        seconds=end_s,
        usecase="fraud",
        commit="0123456789abcdef0123456789abcdef01234567",
        machine="2 cores",
        versions={"Python": "3.11"},
        settings={"FLYWHEEL_SERVING_WORKERS": "2"},
        capacity_per_s=1_000.0,
        generator_cores=0.2,
        longest_stall_ms=3.0,
        machine_busy=[(at, 0.5) for at in ticks],
        traffic=[
            TrafficResult(
                name="decisions",
                kind="decide",
                address="127.0.0.1:50051",
                usecase="fraud",
                within_ms=WITHIN_MS,
                request_bytes=(140, 150, 160),
                statuses={"0": 10},
                seconds=[second for run in parts for second in by_second(run, WITHIN_MS)],
            )
        ],
        stretches=stretches,
        faults=[FaultResult(at_s=1.0, for_s=2.0, what="redis stands still for 2 s")],
        usage=[Usage(process="serving", at_s=ticks, cores=[0.4] * len(ticks), rss_mib=[150.0] * len(ticks))],
        gauges=Gauges(at_s=ticks, in_flight=[3.0] * len(ticks), limit=[64.0] * len(ticks)),
        objectives=[
            Verdict(
                name="Quick",
                measure="p99_ms",
                phase=next(iter(steps)),
                subject="decisions",
                bound="<= 50",
                value=12.0,
                verdict="passed",
            )
        ],
    )
