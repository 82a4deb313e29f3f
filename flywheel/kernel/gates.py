"""The promotion gates: what a model must show before it decides anything.

A gate that could not be measured fails. So does one whose value is no number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from flywheel.contracts.parity import ParityReport
from flywheel.contracts.training import GateResult
from flywheel.kernel.comparison import CONFIDENCE

BEATS_BASELINE = "beats_baseline"
"""The gate whose value is the candidate's average precision and whose demand is `> ` the baseline's."""

NOT_MEASURED = -1.0
"""Stands in a gate's result for a value that is no number."""

FEATURE_PARITY = "feature_parity"
"""The gate that features as served are what their history says they were."""


@dataclass(frozen=True)
class Demands:
    """The bounds of the gates."""

    validation_positives: int = 30
    parity: float = 1e-5
    """Largest difference between the exported and the native model's probability, on any row."""
    calibration_error: float = 0.01
    observed_to_expected: tuple[float, float] = (0.5, 2.0)
    mismatched_share: float = 0.001
    """Of the windowed features of sampled decisions, those that may differ from the same features recomputed."""
    parity_decisions: int = 100
    """So many decisions at least must have been compared for their equality to count as measured."""
    parity_age_s: float = 3_600.0
    """A comparison older than this says nothing of now."""


@dataclass(frozen=True)
class Soundness:
    """What was measured about one model alone on the validation rows."""

    calibration_error: float
    """Beyond what sampling alone explains."""
    observed_to_expected: float
    parity: float
    score_ms: float
    """99th percentile of scoring one row."""


@dataclass(frozen=True)
class Evidence:
    """What was measured about a candidate on the validation rows, and about the others on the very same rows."""

    validation_positives: int
    average_precision: float
    baseline_average_precision: float
    lead_over_champion: float | None
    """The most that the candidate's average precision may be above the champion's: upper bound, one-sided, at
    `comparison.CONFIDENCE`. None when there is no champion, or none that reads the same features."""
    soundness: Soundness


def judge(evidence: Evidence, demands: Demands, model_budget_ms: float) -> tuple[GateResult, ...]:
    """The result of every gate that a candidate must pass to become the champion, passed or not.

    >>> good = Evidence(90, 0.7, 0.6, None, Soundness(0.002, 1.1, 1e-7, 0.05))
    >>> all_passed(judge(good, Demands(), model_budget_ms=15))
    True
    """
    results = [
        _at_least("enough_positives", evidence.validation_positives, demands.validation_positives),
        _above(BEATS_BASELINE, evidence.average_precision, evidence.baseline_average_precision),
    ]
    if evidence.lead_over_champion is not None:
        results.append(_not_behind(evidence.lead_over_champion))
    return (*results, *judge_soundness(evidence.soundness, demands, model_budget_ms))


def judge_soundness(soundness: Soundness, demands: Demands, model_budget_ms: float) -> tuple[GateResult, ...]:
    """The result of every gate that a model must pass to decide anything at all, however good it is beside others."""
    low, high = demands.observed_to_expected
    return (
        _at_most("calibration_error", soundness.calibration_error, demands.calibration_error),
        _gate(
            "observed_to_expected",
            soundness.observed_to_expected,
            lambda v: low <= v <= high,
            f"within {low} to {high}",
        ),
        _at_most("onnx_parity", soundness.parity, demands.parity),
        _at_most("score_ms", soundness.score_ms, model_budget_ms),
    )


def judge_parity(report: ParityReport | None, demands: Demands, now: datetime) -> GateResult:
    """Whether features as served were those that history gives.

    What was not measured, or not of late, passes and says so: a first model has no decisions before it. Too small a
    sample passes only as long as it shows nothing wrong.
    """
    bound = f"<= {demands.mismatched_share:.6g} of served values other than recomputed"
    if report is None:
        return _unmeasured(f"not measured yet; {bound}")
    if (now - report.until).total_seconds() > demands.parity_age_s:
        return _unmeasured(f"not measured within {demands.parity_age_s:.0f} s; {bound}")
    share = report.mismatched_share
    of = f"of {report.values} in {report.decisions} decisions"
    if report.decisions < demands.parity_decisions and share <= demands.mismatched_share:
        return _unmeasured(f"not measured yet, {report.decisions} of {demands.parity_decisions} decisions; {bound}")
    worst = f"; most often {report.mismatched[0].feature}" if report.mismatched else ""
    return _gate(FEATURE_PARITY, share, lambda v: v <= demands.mismatched_share, f"{bound}, {of}{worst}")


def all_passed(results: Sequence[GateResult]) -> bool:
    """Whether there were gates and each passed."""
    return bool(results) and all(result.passed for result in results)


def _unmeasured(demand: str) -> GateResult:
    return GateResult(name=FEATURE_PARITY, passed=True, value=NOT_MEASURED, demand=demand)


def _not_behind(lead: float) -> GateResult:
    demand = f">= 0: average precision above the champion's, upper {CONFIDENCE:.0%} bound"
    return _gate("not_behind_champion", lead, lambda v: v >= 0, demand)


def _above(name: str, value: float, bound: float) -> GateResult:
    return _gate(name, value, lambda v: v > bound, f"> {bound:.6g}")


def _at_least(name: str, value: float, bound: float) -> GateResult:
    return _gate(name, value, lambda v: v >= bound, f">= {bound:.6g}")


def _at_most(name: str, value: float, bound: float) -> GateResult:
    return _gate(name, value, lambda v: v <= bound, f"<= {bound:.6g}")


def _gate(name: str, value: float, passes: Callable[[float], bool], demand: str) -> GateResult:
    # Comparisons with NaN are false, whatever the bound: what cannot be measured does not pass.
    passed = math.isfinite(value) and bool(passes(value))
    return GateResult(name=name, passed=passed, value=value if math.isfinite(value) else NOT_MEASURED, demand=demand)
