"""What can be said of a stretch of requests, each by the name that objectives use."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from loadtests.generator.outcomes import Outcome, Run

_WINDOW_S = 0.5
_CALM = 0.95
ANSWERED = (Outcome.GOOD, Outcome.DEGRADED)

Measure = Callable[[Run, float], float]
"""Of a run, for answers that are in time within so many milliseconds."""


def recovery_s(run: Run, within_ms: float) -> float:
    """How long after the stretch's begin the last half second ended in which less than 95 % was answered in time.

    The whole stretch where nothing was asked after the last bad one.
    """
    if not len(run.intended_s):
        return 0.0
    start_s = float(run.intended_s[0])
    window = ((run.intended_s - start_s) / _WINDOW_S).astype(np.int64)
    in_time = (run.outcome == Outcome.GOOD) & (run.done_s - run.intended_s <= within_ms / 1e3)
    asked = np.bincount(window)
    went_well = np.bincount(window, weights=in_time)
    bad = np.flatnonzero(went_well < _CALM * asked)
    return float(bad[-1] + 1) * _WINDOW_S if len(bad) else 0.0


def _percentile(at: float) -> Measure:
    def measure(run: Run, within_ms: float) -> float:
        del within_ms
        return run.percentile_ms(at)

    return measure


def _of(at: float, *outcomes: Outcome) -> Measure:
    def measure(run: Run, within_ms: float) -> float:
        del within_ms
        latency_ms = run.latency_ms(*outcomes)
        return float(np.percentile(latency_ms, at)) if len(latency_ms) else float("nan")

    return measure


def _share(*outcomes: Outcome) -> Measure:
    def measure(run: Run, within_ms: float) -> float:
        del within_ms
        return run.count(*outcomes) / len(run.outcome) if len(run.outcome) else float("nan")

    return measure


def _failed(run: Run, within_ms: float) -> float:
    del within_ms
    return float(run.count(Outcome.FAILED, Outcome.UNANSWERED))


MEASURES: dict[str, Measure] = {
    "p50_ms": _percentile(50),
    "p90_ms": _percentile(90),
    "p99_ms": _percentile(99),
    "p999_ms": _percentile(99.9),
    "max_ms": _percentile(100),
    "answered_p50_ms": _of(50, *ANSWERED),
    "answered_p90_ms": _of(90, *ANSWERED),
    "answered_p99_ms": _of(99, *ANSWERED),
    "answered_p999_ms": _of(99.9, *ANSWERED),
    "answered_max_ms": _of(100, *ANSWERED),
    "refusal_p99_ms": _of(99, Outcome.REFUSED),
    "goodput_per_s": lambda run, within_ms: run.in_time(within_ms) / run.seconds,
    "goodput_share": lambda run, within_ms: run.in_time(within_ms) / max(len(run.outcome), 1),
    "served_share": _share(*ANSWERED),
    "degraded_share": _share(Outcome.DEGRADED),
    "refused_share": _share(Outcome.REFUSED),
    "failed_share": _share(Outcome.FAILED, Outcome.UNANSWERED),
    "failed": _failed,
    "recovery_s": recovery_s,
}
"""Percentiles `p…_ms` are of all requests: one that was refused, failed, answered by a makeshift or never counts as for
ever. `answered_…` are of those that were answered, by the model or not."""

NEEDS = {
    f"{of}{name}": least
    for of in ("", "answered_", "refusal_")
    for name, least in (("p90_ms", 10), ("p99_ms", 100), ("p999_ms", 1_000))
}
"""Requests below which a percentile is nothing but the largest value, by measure."""

OF_TEST = ("goodput_of_peak", "rss_growth_mib")
"""Measures that need more than the stretch's own requests."""
