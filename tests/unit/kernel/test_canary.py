"""The judgement of a canary: bad ones go, good ones stay at the promised error rate, however often one looks."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy import stats

from flywheel.kernel.arm_evidence import ArmSeen, Seen, arm_of, in_common, runs_of
from flywheel.kernel.canary import FALSE_ALARM, CanaryStep, Step, fails_more, is_late_more, is_slower
from flywheel.kernel.features import InvalidDeclaration
from flywheel.kernel.rollout import Guardrail, Rollout

ROLLOUT = Rollout(step_lasts="10m", decisions=1_000, guardrails=(Guardrail("decline", 0.02),))
LONG_S = 600.0


def arm(
    seed: int,
    decisions: int,
    *,
    failing: float = 0.0,
    slower: float = 1.0,
    shifted: float = 0.0,
    declines: float = 0.05,
    per_unit: int = 2,
    per_run: int = 1,
    spread: float = 0.5,
    late: float = 0.0,
    impatient: float = 0.0,
    unsound: float = 0.0,
) -> ArmSeen:
    """Decisions of the same ten seconds, however many. Whole runs are `failing` and `late`, `impatient` and `unsound`
    single decisions."""
    rng = np.random.default_rng(seed)
    run = np.arange(decisions) // per_run
    unit = rng.integers(0, max(decisions // per_unit, 1), decisions)
    alone = np.random.default_rng([seed, 1])
    return ArmSeen(
        np.linspace(0, 10_000_000, decisions).astype(np.int64),
        unit,
        (rng.random(decisions)[run] < failing) | (alone.random(decisions) < unsound),
        (rng.random(decisions)[run] < late) | (alone.random(decisions) < impatient),
        slower * rng.lognormal(0, spread, decisions)[run],
        1 / (1 + np.exp(-rng.normal(-3 + shifted, 1, decisions))),
        np.where(rng.random(decisions) < declines, "decline", "approve"),
        run,
    )


def first(seen: ArmSeen, decisions: int) -> ArmSeen:
    """The first of them, as if they had taken the same time."""
    return dataclasses.replace(
        seen.where(np.arange(len(seen)) < decisions), at_us=np.linspace(0, 10_000_000, decisions).astype(np.int64)
    )


def together(*arms: ArmSeen) -> ArmSeen:
    names = [each.name for each in dataclasses.fields(ArmSeen) if each.name != "thinned"]
    columns: dict[str, Any] = {name: np.concatenate([getattr(arm, name) for arm in arms]) for name in names}
    return dataclasses.replace(arms[0], **columns)


def test_a_good_canary_advances_once_it_has_seen_enough_for_long_enough() -> None:
    step = CanaryStep(ROLLOUT, 0.05)
    champion, canary = arm(1, 20_000), arm(2, 1_000)
    assert step.judge(champion, canary, 0, LONG_S - 1).step is Step.CONTINUE
    assert step.judge(champion, first(canary, 999), 0, LONG_S).step is Step.CONTINUE
    verdict = step.judge(champion, canary, 0, LONG_S)
    assert verdict.step is Step.ADVANCE
    assert "1000 decisions" in verdict.reason


@pytest.mark.parametrize(
    ("canary", "reason"),
    [
        (arm(2, 1_000, failing=0.03), "its model failed"),
        (arm(2, 1_000, slower=4.0), "took longer"),
        (arm(2, 1_000, shifted=1.5), "PSI"),
        (arm(2, 1_000, declines=0.15), "decides decline"),
    ],
)
def test_each_bound_that_is_crossed_ends_it(canary: ArmSeen, reason: str) -> None:
    verdict = CanaryStep(ROLLOUT, 0.05).judge(arm(1, 20_000), canary, 0, 60.0)
    assert verdict.step is Step.ROLL_BACK
    assert reason in verdict.reason


def test_a_canary_that_always_fails_goes_at_the_first_look() -> None:
    step = CanaryStep(ROLLOUT, 0.01)
    champion = arm(1, 800)
    assert step.judge(champion, arm(2, 3, failing=1.0), 0, 1.0).step is Step.CONTINUE
    assert step.judge(champion, arm(2, 4, failing=1.0), 0, 1.0).step is Step.ROLL_BACK


def test_a_canary_that_no_decision_reaches_goes_once_it_had_the_time_to_be_loaded() -> None:
    step, champion, nothing = CanaryStep(ROLLOUT, 0.01), arm(1, 2_000), arm_of([])
    for unmet, lasted_s in ((1_999, LONG_S), (2_000, LONG_S - 1)):
        assert not step.due(0, unmet, lasted_s)
        assert step.judge(champion, nothing, unmet, lasted_s).step is Step.CONTINUE
    assert step.due(0, 2_000, LONG_S)
    verdict = step.judge(champion, nothing, 2_000, LONG_S)
    assert (verdict.step, "no decision reached it" in verdict.reason) == (Step.ROLL_BACK, True)


def test_a_canary_that_was_stopped_where_it_ran_goes() -> None:
    step, champion, canary = CanaryStep(ROLLOUT, 0.05), arm(1, 8_000), arm(2, 400)
    assert step.judge(champion, canary, 399, 60.0).step is Step.CONTINUE
    verdict = step.judge(champion, canary, 400, 60.0)
    assert (verdict.step, "stopped" in verdict.reason) == (Step.ROLL_BACK, True)


def test_without_a_champion_to_compare_with_it_stays_where_it_is() -> None:
    assert CanaryStep(ROLLOUT, 0.5).judge(arm_of([]), arm(2, 5_000), 0, LONG_S).step is Step.CONTINUE


@pytest.mark.parametrize(("per_run", "spread"), [(1, 0.5), (1, 1.5), (16, 0.5), (16, 1.0)])
def test_looking_often_does_not_find_what_is_not_there(per_run: int, spread: float) -> None:
    ended = 0
    for seed in range(300):
        step = CanaryStep(Rollout(decisions=1_000, guardrails=(Guardrail("decline", 0.0),)), 0.2)
        champion, canary = (
            arm(2 * seed + place, decisions, failing=0.02, late=0.02, per_run=per_run, spread=spread)
            for place, decisions in enumerate((4_000, 1_000))
        )
        for seen in range(5, 1_001, 5):
            if not step.due(seen, 0, LONG_S if seen == 1_000 else 0.0):
                continue
            verdict = step.judge(first(champion, 4 * seen), first(canary, seen), 0, LONG_S if seen == 1_000 else 0.0)
            if verdict.step is not Step.CONTINUE:
                break
        ended += verdict.step is Step.ROLL_BACK
    # Binomial: at 1 % more than 9 of 300 would be a one in a thousand chance.
    assert ended <= stats.binom.ppf(0.999, 300, FALSE_ALARM)


@pytest.mark.parametrize(("champions", "canarys"), [(20, 1), (1, 20), (4, 16)])
def test_impatient_callers_are_no_fault_of_the_arm_whose_runs_serve_more_of_them(champions: int, canarys: int) -> None:
    ended = 0
    for seed in range(200):
        champion = arm(2 * seed, 8_000, impatient=0.02, unsound=0.02, per_run=champions)
        canary = arm(2 * seed + 1, 2_000, impatient=0.02, unsound=0.02, per_run=canarys)
        ended += CanaryStep(ROLLOUT, 0.2).judge(champion, canary, 0, 60.0).step is Step.ROLL_BACK
    assert ended <= stats.binom.ppf(0.999, 200, FALSE_ALARM)


@pytest.mark.parametrize(("champions", "canarys"), [(20, 1), (16, 2), (1, 20)])
@pytest.mark.parametrize("what", ["the time was over", "its model failed"])
def test_a_canary_that_makes_a_fifth_late_or_fail_goes_whatever_its_runs_serve(
    champions: int, canarys: int, what: str
) -> None:
    kind = "impatient" if what == "the time was over" else "unsound"
    for seed in range(20):
        champion = arm(2 * seed, 20_000, per_run=champions, **{kind: 0.02})  # type: ignore[arg-type]
        canary = arm(2 * seed + 1, 2_000, per_run=canarys, **{kind: 0.2})  # type: ignore[arg-type]
        verdict = CanaryStep(ROLLOUT, 0.1).judge(champion, canary, 0, 60.0)
        assert (verdict.step, what in verdict.reason) == (Step.ROLL_BACK, True)


@pytest.mark.parametrize("thinned", [1, 64])
def test_of_a_run_each_decision_is_drawn_as_often_as_the_others(thinned: int) -> None:
    places = np.zeros(8)
    for place in range(8):
        one = np.arange(64_000) % 8 == place
        run = thinned * np.random.default_rng(1).integers(-(2**40), 2**40, 8_000).repeat(8)
        places[place] = runs_of(dataclasses.replace(arm(1, 64_000), late=one, run=run)).late.sum()
    assert places.sum() == pytest.approx(8_000, abs=1)
    assert stats.chisquare(places).pvalue > 0.001


@pytest.mark.parametrize("size", [2, 4, 8, 20])
def test_one_run_that_fails_is_one_failure_however_many_it_served(size: int) -> None:
    failed = [Seen(0, 1_000 + place, True, False, np.nan, np.nan, "approve", 9_999) for place in range(size)]
    fine = [Seen(0, place, False, False, 1.0, 0.1, "approve", place) for place in range(2_000)]
    canary = arm_of([*fine[:120], *failed, *fine[120:128]])
    assert CanaryStep(Rollout(), 0.05).judge(arm_of(fine), canary, 0, 10.0).step is Step.CONTINUE


def test_a_slow_canary_of_small_runs_is_seen_beside_a_champion_of_large_ones() -> None:
    large, small = arm(1, 16_000, per_run=16, slower=4.0), arm(2, 4_000)
    champion = together(large, dataclasses.replace(small, run=large.run[-1] + 1 + small.run))
    assert not is_slower(champion, arm(3, 1_000), 1.5, 0.01)
    assert not is_slower(champion, arm(3, 16_000, per_run=16, slower=4.0), 1.5, 0.01)
    assert not is_slower(large, arm(3, 1_000, slower=4.0), 1.5, 0.01)
    assert "took longer" in is_slower(champion, arm(3, 1_000, slower=4.0), 1.5, 0.01)
    assert "took longer" in is_slower(large, arm(3, 1_000, slower=12.0), 1.5, 0.01)


@pytest.mark.parametrize(("failures", "others"), [(0, 3), (2, 1), (5, 20), (9, 0)])
def test_failures_are_compared_by_fishers_exact_test(failures: int, others: int) -> None:
    canary, champion = np.arange(50) < failures, np.arange(900) < others
    expected = stats.fisher_exact(np.array([[failures, 50 - failures], [others, 900 - others]]), "greater").pvalue
    assert bool(fails_more(champion, canary, expected * 1.001)) is (failures > 0)
    assert not fails_more(champion, canary, expected * 0.999)


@pytest.mark.parametrize("known", [False, True])
def test_a_canary_that_makes_requests_late_goes_though_those_in_time_are_as_good_as_the_champions(known: bool) -> None:
    in_time, late = arm(2, 400), arm(3, 8, late=1.0, slower=80.0, spread=0.1)
    nothing = np.full(8, np.nan)
    late = dataclasses.replace(
        late,
        score=nothing,
        action=np.full(8, ""),
        model_ms=late.model_ms if known else nothing,
        run=in_time.run[-1] + 1 + late.run,
    )
    verdict = CanaryStep(ROLLOUT, 0.05).judge(arm(1, 8_000), together(in_time, late), 0, 60.0)
    assert (verdict.step, "the time was over in 8 of 408 runs" in verdict.reason) == (Step.ROLL_BACK, True)


def test_what_was_late_with_both_is_no_fault_of_the_canary() -> None:
    champion, canary = arm(1, 20_000, late=0.05), arm(2, 1_000, late=0.05)
    assert CanaryStep(ROLLOUT, 0.05).judge(champion, canary, 0, LONG_S).step is Step.ADVANCE


def test_the_times_of_late_runs_count_among_the_slow_ones() -> None:
    slow = np.arange(1_000) % 25 == 0
    canary = arm(2, 1_000)
    late = dataclasses.replace(canary, late=slow, model_ms=np.where(slow, 60.0, canary.model_ms))
    assert "of 1000 runs took longer" in is_slower(arm(1, 20_000), late, 1.5, 0.01)


@pytest.mark.parametrize(("late", "others"), [(2, 1), (9, 0)])
def test_late_runs_are_compared_by_fishers_exact_test(late: int, others: int) -> None:
    canary, champion = np.arange(50) < late, np.arange(900) < others
    expected = stats.fisher_exact(np.array([[late, 50 - late], [others, 900 - others]]), "greater").pvalue
    assert is_late_more(champion, canary, expected * 1.001)
    assert not is_late_more(champion, canary, expected * 0.999)


def test_only_the_time_that_both_have_in_common_is_compared() -> None:
    # The champion decided in a cold start as well, and the canary goes on where the champion is not read yet.
    champion = dataclasses.replace(arm(1, 1_000, failing=0.5), at_us=np.arange(1_000) * 10)
    canary = dataclasses.replace(arm(2, 100), at_us=np.arange(100) * 100 + 5_000)
    theirs, its = in_common(champion, canary)
    assert (theirs.at_us.min(), theirs.at_us.max()) == (5_000, 9_990)
    assert (its.at_us.min(), its.at_us.max()) == (5_000, 9_900)
    cold = dataclasses.replace(arm(3, 100, failing=1.0), at_us=np.full(100, -1), run=10_000 + np.arange(100))
    # Failures before the champion's first decision, and after its last, are not held against the canary.
    step = CanaryStep(ROLLOUT, 0.05)
    assert step.judge(arm(1, 2_000), together(arm(2, 100), cold), 0, 60.0).step is Step.CONTINUE


def test_decisions_that_were_left_out_by_chance_count_among_those_there_were() -> None:
    thinned = dataclasses.replace(arm(2, 250), thinned=4)
    assert thinned.decisions == 1_000
    assert CanaryStep(ROLLOUT, 0.05).judge(arm(1, 20_000), thinned, 0, LONG_S).step is Step.ADVANCE


def test_a_canary_that_does_as_one_unit_does_is_no_evidence_of_many() -> None:
    champion = arm(1, 20_000)
    lone = arm(2, 1_000, declines=1.0, shifted=2.0, per_unit=100)
    # Ten units: below the number from which units can speak for others.
    assert CanaryStep(ROLLOUT, 0.05).judge(champion, lone, 0, 60.0).step is Step.CONTINUE


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": ()},
        {"steps": (0.0, 1.0)},
        {"steps": (0.5, 0.1, 1.0)},
        {"steps": (0.1, 0.5)},
        {"steps": (0.1, 1.0, 2.0)},
        {"decisions": 0},
        {"decisions": 20_001},
        {"latency_factor": 0.9},
        {"score_psi": float("nan")},
        {"guardrails": (Guardrail("decline", -0.1),)},
    ],
)
def test_a_rollout_that_makes_no_sense_is_refused_where_it_is_declared(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidDeclaration):
        Rollout(**wrong)  # type: ignore[arg-type]
