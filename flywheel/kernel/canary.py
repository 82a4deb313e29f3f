"""Whether a canary goes on, takes the next step or goes: judged against the champion's decisions of the same time.

Every test is one-sided and exact or clustered by unit, and on the time that both arms have in common. Decisions of one
run of a model share its time and mostly its failure, so each run is one piece of evidence about these, however many
decisions it served: of failure and lateness, one decision drawn of each run. What came too late to be answered, or to
be shown to the model, is evidence like the others: those in time alone would make an arm look the better, the more it
fails to answer. A canary is looked at each time its decisions have doubled, and look number k spends 1/(k(k+1)) of the
error that is allowed to a step: however often somebody asks, a canary as good as the champion is rolled back in at most
one of a hundred steps, score distribution apart, whose noise bound is its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln

from flywheel.kernel import drift
from flywheel.kernel.arm_evidence import ArmSeen, in_common, runs_of
from flywheel.kernel.experiment import ratio_of
from flywheel.kernel.rollout import Guardrail, Rollout

FALSE_ALARM = 0.01
"""The chance that a step of a canary as good as the champion ends in a rollback."""
_FIRST_LOOK = 4
_LATENCY_TAIL = 0.01
_LATENCY_LEAST = 100
_UNITS_LEAST = 30
_UNITS_FOR_SCORES = 100
_EXPECTED_AT_LEAST = 20


class Step(StrEnum):
    """What becomes of a canary."""

    CONTINUE = "continue"
    ADVANCE = "advance"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True)
class Verdict:
    """The step and why, for the log."""

    step: Step
    reason: str = ""


class CanaryStep:
    """One step of one canary. Each look is made once, so asking often finds no more than asking seldom."""

    def __init__(self, rollout: Rollout, share: float) -> None:
        self._rollout = rollout
        self._share = share
        self._looks = 0
        self._looked_at = 0

    def due(self, decisions: int, unmet: int, lasted_s: float) -> bool:
        """Whether there is anything to judge.

        `decisions` are the canary's, `unmet` the units that met the champion since the newest of those, or since the
        step began.
        """
        return (
            looks_due(decisions) > self._looks
            or self._may_end(decisions, lasted_s)
            or self._is_silent(decisions, unmet, lasted_s)
        )

    def judge(self, champion: ArmSeen, canary: ArmSeen, unmet: int, lasted_s: float) -> Verdict:
        """What to do now."""
        silent = self._is_silent(canary.decisions, unmet, lasted_s)
        champion, canary = in_common(champion, canary)
        decisions = canary.decisions
        ends = self._may_end(decisions, lasted_s)
        if looks_due(decisions) > self._looks or ((ends or silent) and decisions > self._looked_at):
            self._looks = max(looks_due(decisions), self._looks + 1)
            self._looked_at = decisions
            crossed = self._crossed(champion, canary)
            if crossed:
                return Verdict(Step.ROLL_BACK, crossed)
        if silent:
            expected = f"where about {unmet * self._share:.0f} units were to be expected"
            return Verdict(Step.ROLL_BACK, f"no decision reached it any more {expected}: it was stopped or not loaded")
        if not ends or not len(champion):
            return Verdict(Step.CONTINUE)
        return Verdict(Step.ADVANCE, f"{decisions} decisions in {lasted_s:.0f} s at {self._share:.3g} crossed no bound")

    def _may_end(self, decisions: int, lasted_s: float) -> bool:
        return decisions >= self._rollout.decisions and lasted_s >= self._rollout.step_lasts_s

    def _is_silent(self, decisions: int, unmet: int, lasted_s: float) -> bool:
        # Whoever has not answered at all may still have to be loaded. Units are what is split: a few of them that
        # decide often need not have one among them that meets the canary.
        began = decisions > 0 or lasted_s >= self._rollout.step_lasts_s
        return began and unmet * self._share >= _EXPECTED_AT_LEAST

    def _crossed(self, champion: ArmSeen, canary: ArmSeen) -> str:
        """Which bound is crossed; empty for none."""
        tests = 3 + len(self._rollout.guardrails)
        alpha = FALSE_ALARM / (self._looks * (self._looks + 1)) / tests
        return next((found for found in self._tests(champion, canary, alpha) if found), "")

    def _tests(self, champion: ArmSeen, canary: ArmSeen, alpha: float) -> Iterator[str]:
        theirs, its = runs_of(champion), runs_of(canary)
        yield fails_more(theirs.failed, its.failed, alpha)
        yield is_late_more(theirs.late, its.late, alpha)
        yield is_slower(champion, canary, self._rollout.latency_factor, alpha)
        yield scores_otherwise(champion, canary, self._rollout.score_psi)
        for rail in self._rollout.guardrails:
            yield acts_more(champion, canary, rail, alpha)


def looks_due(decisions: int) -> int:
    """How many looks there are up to so many decisions.

    >>> [looks_due(decisions) for decisions in (3, 4, 7, 8, 1000)]
    [0, 1, 1, 2, 8]
    """
    return 0 if decisions < _FIRST_LOOK else int(math.log2(decisions / _FIRST_LOOK)) + 1


def fails_more(champion: NDArray[np.bool_], canary: NDArray[np.bool_], alpha: float) -> str:
    """Why the canary's model fails in more of its runs than the champion's (Fisher's exact test), or nothing.

    Of each run one decision counts, whichever was drawn.
    """
    return _happens_more("its model failed", "the champion's", champion, canary, alpha)


def is_late_more(champion: NDArray[np.bool_], canary: NDArray[np.bool_], alpha: float) -> str:
    """Why more of the canary's runs are too late than of the champion's (Fisher's exact test), or nothing.

    Of each run one decision counts, whichever was drawn.
    """
    return _happens_more("the time was over", "for the champion", champion, canary, alpha)


def _happens_more(
    what: str, to_champion: str, champion: NDArray[np.bool_], canary: NDArray[np.bool_], alpha: float
) -> str:
    failures, others = int(canary.sum()), int(champion.sum())
    p_value = _fisher(failures, canary.size, others, champion.size)
    if not failures or not champion.size or p_value >= alpha:
        return ""
    return (
        f"{what} in {failures} of {canary.size} runs, {to_champion} in {others} of {champion.size} (p = {p_value:.2g})"
    )


def is_slower(champion: ArmSeen, canary: ArmSeen, factor: float, alpha: float) -> str:
    """Why the canary's runs are more often slow than the champion's: beyond `factor` times the champion's p99.

    Runs are compared with runs that served about as many decisions, or more where the champion has none such.
    """
    pairs = list(_like_sized(_times(champion), _times(canary)))
    for theirs, its in pairs:
        rank = math.ceil((1 - _LATENCY_TAIL) * theirs.size)
        p99_ms = float(np.partition(theirs, rank - 1)[rank - 1])
        slow = int((its > factor * p99_ms).sum())
        p_value = _exceeding(slow, its.size, rank, theirs.size)
        if p_value < alpha / len(pairs):
            return f"{slow} of {its.size} runs took longer than {factor:g} times {p99_ms:.2f} ms (p = {p_value:.2g})"
    return ""


def _like_sized(
    theirs: dict[int, NDArray[np.float64]], its: dict[int, NDArray[np.float64]]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Of each size of the canary's runs the champion's times to compare with, and the canary's."""
    for size, times in its.items():
        enough = [other for other in sorted(theirs) if other >= size and theirs[other].size >= _LATENCY_LEAST]
        if enough and times.size >= _LATENCY_LEAST:
            yield theirs[enough[0]], times


def _times(arm: ArmSeen) -> dict[int, NDArray[np.float64]]:
    """What runs took, by the binary magnitude of the number of decisions that they served."""
    runs = runs_of(arm)
    magnitude = np.frexp(runs.served)[1]
    told = ~np.isnan(runs.model_ms)
    return {int(size): runs.model_ms[told & (magnitude == size)] for size in np.unique(magnitude)}


def _exceeding(number: int, trials: int, rank: int, others: int) -> float:
    """Chance that so many of `trials` or more exceed the `rank`-th lowest of `others` where all are of one kind."""
    if not number:
        return 1.0
    seen = np.arange(number, trials + 1)
    above, below = others - rank + 1, rank
    logs = _log_choose(trials, seen) + betaln(seen + above, trials - seen + below) - betaln(above, below)
    return float(min(np.exp(logs).sum(), 1.0))


def scores_otherwise(champion: ArmSeen, canary: ArmSeen, threshold: float) -> str:
    """Why the canary's scores are distributed otherwise than the champion's; of each unit its first score counts."""
    theirs, its = _first_scores(champion), _first_scores(canary)
    if min(theirs.size, its.size) < _UNITS_FOR_SCORES:
        return ""
    reference = drift.histogram(theirs)
    found = drift.shift(reference, drift.count(its, reference), threshold=threshold)
    if not found.exceeds:
        return ""
    return f"its scores are far from the champion's: PSI {found.psi:.2f}, bound {threshold:g}, noise {found.noise:.2f}"


def acts_more(champion: ArmSeen, canary: ArmSeen, rail: Guardrail, alpha: float) -> str:
    """Why the canary takes the guarded action more often than is accepted, or nothing."""
    answered = [arm.where(arm.action != "") for arm in (champion, canary)]
    theirs, its = (ratio_of(arm.unit, arm.action == rail.action, np.ones(len(arm))) for arm in answered)
    if min(theirs.units, its.units) < _UNITS_LEAST:
        return ""
    beyond = its.value - theirs.value - rail.more_by
    error = math.sqrt(theirs.variance + its.variance)
    p_value = 0.5 * math.erfc(beyond / error / math.sqrt(2)) if error > 0 else float(beyond <= 0)
    if p_value >= alpha:
        return ""
    return (
        f"it decides {rail.action} in {its.value:.1%} of decisions where the champion does in {theirs.value:.1%} and "
        f"{rail.more_by:.1%} more are accepted (p = {p_value:.2g})"
    )


def _first_scores(arm: ArmSeen) -> NDArray[np.float64]:
    # A unit's scores resemble each other: counted all, they would look like more evidence than they are.
    scored = ~np.isnan(arm.score)
    _, places = np.unique(arm.unit[scored], return_index=True)
    return arm.score[scored][places]


def _fisher(failures: int, trials: int, others: int, other_trials: int) -> float:
    """Chance of as many failures among `trials` when all failures fell at random among both."""
    drawn = np.arange(failures, min(trials, failures + others) + 1)
    total = failures + others
    logs = (
        _log_choose(trials, drawn)
        + _log_choose(other_trials, total - drawn)
        - _log_choose(trials + other_trials, np.array([total]))
    )
    return float(min(np.exp(logs).sum(), 1.0))


def _log_choose(total: int, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(gammaln(total + 1) - gammaln(chosen + 1) - gammaln(total - chosen + 1), dtype=np.float64)
