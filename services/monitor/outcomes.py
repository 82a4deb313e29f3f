"""Quality of decisions whose truth is known: in all, by day of event time, and arm against arm."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.events import from_us, to_us
from flywheel.contracts.models import Deployment, Role
from flywheel.kernel import evaluation, experiment
from flywheel.kernel.declaration import CostPolicy, UseCase
from flywheel.kernel.durations import DAY_US, parse_duration
from flywheel.kernel.maturity import Ledger, Outcomes
from services.monitor.state import Arm, Comparison, DayQuality, Interval, Maturity, Quality

_DAYS_SHOWN = 45
_SPLIT_BROKEN_BELOW = 0.001
_WORTH_SEEING = 0.1
_TOO_FEW = "Too few decisions yet: nothing is said about the split or the arms."
_LEAST = 30
"""Units that each arm is to expect before the split is checked, and matured decisions before an arm is measured."""
"""A difference of a tenth of what the champion saves is what the experiment is sized for."""


def maturity(ledger: Ledger, outcomes: Outcomes, matures_after: str) -> Maturity:
    """How many decisions wait for their truth, until when, and how many could not wait that long."""
    maturity_us = parse_duration(matures_after)
    waiting = ~outcomes.matured
    oldest_us = int(outcomes.event_time_us[waiting].min()) if waiting.any() else None
    return Maturity(
        matures_after_s=maturity_us / 1e6,
        waiting=int(waiting.sum()),
        reported_early=int((waiting & outcomes.positive).sum()),
        next_at=None if oldest_us is None else from_us(oldest_us + maturity_us),
        forgotten_early=ledger.forgotten_early,
        advice=_advice(ledger, matures_after) if ledger.forgotten_early else None,
    )


def _advice(ledger: Ledger, matures_after: str) -> str:
    return (
        f"{ledger.forgotten_early:,} decisions were forgotten before they matured: set FLYWHEEL_MONITOR_CAPACITY, "
        f"now {ledger.capacity:,}, above the number of decisions in {matures_after} of event time "
        "(about 170 bytes of memory each)."
    )


def quality(matured: Outcomes, policy: CostPolicy | None) -> Quality:
    """Quality of matured decisions; null where there is nothing to measure, as money is without a policy of costs."""
    table = evaluation.confusion(matured.positive, matured.flagged)
    saved = None if policy is None or not len(matured) else float(_saved(matured, policy).sum())
    lost = 0.0 if policy is None else _lost_by_approving(matured, policy)
    return Quality(
        decisions=len(matured),
        positives=int(matured.positive.sum()),
        precision=table.precision,
        recall=table.recall,
        decline_precision=evaluation.confusion(matured.positive, matured.declined).precision,
        auc=evaluation.roc_auc(matured.positive, matured.score),
        average_precision=evaluation.average_precision(matured.positive, matured.score),
        saved_cents=saved,
        saved_share=saved / lost if saved is not None and lost else None,
    )


def quality_by_day(matured: Outcomes, policy: CostPolicy | None) -> tuple[DayQuality, ...]:
    """Quality of each day of event time, the newest days, oldest first."""
    days = matured.event_time_us // DAY_US
    return tuple(
        DayQuality(
            day=from_us(int(day) * DAY_US).date().isoformat(),
            **quality(matured.where(days == day), policy).model_dump(),
        )
        for day in np.unique(days)[-_DAYS_SHOWN:]
    )


def compare_arms(outcomes: Outcomes, deployment: Deployment | None, usecase: UseCase) -> Comparison | None:
    """Champion against challenger since this deployment; None without a challenger, or where the use case ranks.

    Arms are compared by the money that they save, which showing something does not.
    Decisions by a fallback stay with the arm their unit was assigned to, which is told beside how many these are:
    an arm is what it does to its units, its failures included. A canary's are in neither.
    Shares are of the units beside a canary.
    """
    if deployment is None or deployment.challenger is None or usecase.ranks:
        return None
    inside = _of_deployment(outcomes, deployment)
    champion = inside.where(~inside.challenger)
    challenger = inside.where(inside.challenger)
    arms = (
        _arm(Role.CHAMPION, deployment.champion, champion, usecase.costs),
        _arm(Role.CHALLENGER, deployment.challenger, challenger, usecase.costs),
    )
    ratios = _saved_ratio(champion, usecase.costs), _saved_ratio(challenger, usecase.costs)
    difference = experiment.compare(*ratios)
    units = arms[0].units + arms[1].units
    share = deployment.challenger_share / (1 - deployment.canary_share)
    least = _units_least(share)
    p_value = experiment.sample_ratio_p(arms[0].units, arms[1].units, share) if units >= least else math.nan
    return Comparison(
        unit=usecase.experiment.unit,
        challenger_share_declared=share,
        challenger_share_seen=arms[1].units / units if units else None,
        sample_ratio_p=p_value,
        units_least=least,
        matured_least=_LEAST,
        arms=arms,
        difference_per_1000=Interval.of(difference.interval, 1_000),
        p_value=difference.p_value,
        verdict=_verdict(ratios, difference, p_value, share) if units >= least else _TOO_FEW,
    )


def _units_least(share: float) -> int:
    """So many units that the smaller arm is to expect enough of them for a chi-square check."""
    return math.ceil(_LEAST / (min(share, 1 - share) or 0.5))


def _of_deployment(outcomes: Outcomes, deployment: Deployment) -> Outcomes:
    code = {version: index for index, version in enumerate(outcomes.versions)}
    expected = np.where(
        outcomes.challenger, code.get(deployment.challenger or "", -1), code.get(deployment.champion, -1)
    )
    since = outcomes.decided_at_us >= to_us(deployment.deployed_at)
    return outcomes.where(since & ~outcomes.canary & ((outcomes.version == expected) | outcomes.fallback))


def _arm(role: Role, version: str, outcomes: Outcomes, policy: CostPolicy) -> Arm:
    matured = outcomes.where(outcomes.matured)
    flagged, positive = matured.where(matured.flagged), matured.where(matured.positive)
    return Arm(
        role=role,
        version=version,
        decisions=len(outcomes),
        units=int(np.unique(outcomes.unit).size),
        matured=len(matured),
        positives=len(positive),
        precision=Interval.of(experiment.share_of(flagged.unit, flagged.positive)),
        recall=Interval.of(experiment.share_of(positive.unit, positive.flagged)),
        auc=evaluation.roc_auc(matured.positive, matured.score),
        average_precision=evaluation.average_precision(matured.positive, matured.score),
        saved_per_1000=Interval.of(_saved_ratio(outcomes, policy).interval(), 1_000),
        fallback_share=float(outcomes.fallback.mean()) if len(outcomes) else None,
    )


def _saved_ratio(outcomes: Outcomes, policy: CostPolicy) -> experiment.Ratio:
    matured = outcomes.where(outcomes.matured)
    return experiment.ratio_of(matured.unit, _saved(matured, policy), np.ones(len(matured)))


def _saved(matured: Outcomes, policy: CostPolicy) -> NDArray[np.float64]:
    return evaluation.saved(
        policy,
        labels=matured.positive,
        amounts=matured.amount,
        declined=matured.declined,
        stepped_up=matured.stepped_up,
    )


def _lost_by_approving(matured: Outcomes, policy: CostPolicy) -> float:
    nobody = np.zeros(len(matured), dtype=bool)
    costs = evaluation.realised_cost(
        policy, labels=matured.positive, amounts=matured.amount, declined=nobody, stepped_up=nobody
    )
    return float(costs.sum())


def _verdict(
    ratios: tuple[experiment.Ratio, experiment.Ratio],
    difference: experiment.Difference,
    sample_ratio_p: float,
    share: float,
) -> str:
    champion, challenger = ratios
    if sample_ratio_p < _SPLIT_BROKEN_BELOW:
        return f"The split is broken (p = {sample_ratio_p:.2g}): the arms cannot be compared until the cause is found."
    units = champion.units + challenger.units
    if champion.units < 2 or challenger.units < 2:
        return "No matured outcomes in both arms yet: nothing can be compared."
    needed = experiment.units_needed(champion, _WORTH_SEEING * champion.value, share)
    if units < needed:
        about = f"about {_rounded(needed):,}" if math.isfinite(needed) else "a number not known yet"
        return (
            f"Not enough matured outcomes yet: {units:,} units of {about} that a difference of a tenth needs; "
            "more outcomes of each unit lower that number."
        )
    interval = difference.interval
    if interval.low > 0:
        return "The challenger saves more than the champion: it deserves the traffic."
    if interval.high < 0:
        return "The champion saves more than the challenger: it should stay."
    return "No difference between the arms within the interval shown."


def _rounded(number: float) -> int:
    """To two significant digits, upward: a plan needs no more."""
    step = 10.0 ** max(math.floor(math.log10(max(number, 1.0))) - 1, 0)
    return int(math.ceil(number / step) * step)
