"""Under any load: as many answers as without it, in time, what matters most first, and back to normal at once."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.kernel.admission import Admission, Criticality, Reason
from flywheel.kernel.concurrency import Bounds
from tests.overload import Cost, Load, Run, simulate, simulate_callers

BUDGET_S = 0.05
SETTLED_S, UNTIL_S = 0.5, 2.5
# Three processes: as quick as serving is, one with a heavy model, one whose requests differ.
QUICK = Cost(refuse_s=3e-6, prepare_s=60e-6, answer_s=80e-6)
HEAVY = Cost(refuse_s=3e-6, prepare_s=200e-6, answer_s=2e-3)
VARIED = Cost(refuse_s=3e-6, prepare_s=200e-6, answer_s=300e-6, spread=1.0)
COSTS = pytest.mark.parametrize("cost", [QUICK, HEAVY, VARIED], ids=["quick", "heavy", "varied"])
CRITICAL, DEFAULT, SHEDDABLE = Criticality


def new(**changes: float) -> Admission:
    return Admission(Bounds(**{"budget_s": BUDGET_S, "highest": 256} | changes))


def ran(cost: Cost, *loads: Load, until_s: float = UNTIL_S, **other: Any) -> Run:
    return simulate(new(), loads, until_s=until_s, cost=lambda _: cost, **other)


def possible(cost: Cost, run: Run, begins_s: float, ends_s: float) -> float:
    """Answers a second, when the core does nothing but answer and refuse."""
    refused = sum(not math.isnan(fate.refused_s) for fate in run.came(begins_s, ends_s)) / (ends_s - begins_s)
    return cost.capacity * (1 - refused * cost.refuse_s)


@COSTS
@pytest.mark.parametrize("times", [2, 5, 10])
def test_overload_costs_neither_answers_nor_time(cost: Cost, times: int) -> None:
    run = ran(cost, Load(cost.capacity * times))
    assert run.goodput(BUDGET_S, SETTLED_S, UNTIL_S) >= 0.9 * possible(cost, run, SETTLED_S, UNTIL_S)
    assert run.p99_s(SETTLED_S) <= BUDGET_S
    refusals_s = [fate.refused_s - fate.arrived_s for fate in run.came(SETTLED_S) if not math.isnan(fate.refused_s)]
    # The port's goal is 5 ms; whoever comes while a cohort is answered waits until it is.
    assert np.percentile(refusals_s, 50) <= 0.005
    assert np.percentile(refusals_s, 99) <= 0.012
    # Of the whole core: refusing ten times as many as quick requests costs it a fifth.
    assert run.goodput(BUDGET_S, SETTLED_S, UNTIL_S) >= 0.75 * cost.capacity


def test_without_a_limit_the_same_load_would_be_answered_too_late() -> None:
    unlimited = Admission(Bounds(budget_s=1e6, highest=1e9, first=1e9))
    run = simulate(unlimited, [Load(HEAVY.capacity * 2)], until_s=UNTIL_S, cost=lambda _: HEAVY)
    assert run.goodput(BUDGET_S, SETTLED_S, UNTIL_S) < 0.1 * HEAVY.capacity


@COSTS
def test_hardly_anything_is_refused_of_a_load_that_can_be_carried(cost: Cost) -> None:
    run = ran(cost, Load(cost.capacity * 0.7))
    came = run.came(SETTLED_S)
    assert len(run.answered(SETTLED_S)) >= 0.99 * len(came)


def test_the_limit_comes_to_rest() -> None:
    run = ran(QUICK, Load(QUICK.capacity * 5), until_s=4.0)
    limits = [limit for now_s, limit in run.limits if now_s > 1.0]
    assert max(limits) <= 1.25 * min(limits)


@pytest.mark.parametrize("times", [2, 10])
def test_after_a_peak_all_is_answered_again_at_once(times: int) -> None:
    calm, peak = QUICK.capacity * 0.6, QUICK.capacity * times
    run = ran(QUICK, Load(calm), Load(peak, begins_s=1.0, ends_s=2.0), until_s=3.0)
    after = run.came(2.1)
    assert len(run.answered(2.1)) == len(after)
    assert run.p99_s(2.1) < BUDGET_S / 4


def test_of_what_comes_the_more_critical_is_answered() -> None:
    capacity = QUICK.capacity
    run = ran(QUICK, Load(capacity * 0.4, CRITICAL), Load(capacity * 0.3, DEFAULT), Load(capacity * 5, SHEDDABLE))
    answered = {
        kind: np.mean([not math.isnan(f.answered_s) for f in run.came(SETTLED_S) if f.criticality is kind])
        for kind in Criticality
    }
    assert answered[CRITICAL] >= 0.98
    assert answered[DEFAULT] >= 0.8
    assert answered[SHEDDABLE] < 0.1


def test_when_there_is_too_much_of_the_critical_nothing_else_is_answered() -> None:
    run = ran(QUICK, *(Load(QUICK.capacity * 2, kind) for kind in Criticality))
    answered = run.answered(SETTLED_S)
    assert sum(fate.criticality is CRITICAL for fate in answered) >= 0.98 * len(answered)


def test_what_may_be_shed_is_answered_when_nothing_else_comes() -> None:
    run = ran(QUICK, Load(QUICK.capacity * 3, SHEDDABLE))
    assert run.goodput(BUDGET_S, SETTLED_S, UNTIL_S) >= 0.9 * possible(QUICK, run, SETTLED_S, UNTIL_S)


def test_a_process_that_becomes_slower_takes_less_and_recovers() -> None:
    slower = Cost(prepare_s=5e-4, answer_s=2e-3)
    costs = lambda now_s: slower if 1.0 <= now_s < 3.5 else QUICK  # noqa: E731
    run = simulate(new(), [Load(QUICK.capacity * 2)], until_s=5.0, cost=costs)
    assert run.goodput(BUDGET_S, 2.5, 3.5) >= 0.85 * slower.capacity
    assert run.goodput(BUDGET_S, 4.5, 5.0) >= 0.85 * QUICK.capacity


def test_a_slow_store_is_no_queue_that_refusing_would_shorten() -> None:
    store_s = lambda now_s: 0.02 if now_s >= 1.0 else 3e-4  # noqa: E731
    run = ran(HEAVY, Load(HEAVY.capacity * 0.5), until_s=7.0, store_s=store_s)
    # Shrinking the limit until requests take the target would end at one at a time: a fifth of the load.
    assert len(run.answered(4.0)) >= 0.6 * len(run.came(4.0))
    assert run.p99_s(4.0) <= 1.1 * BUDGET_S


def test_a_process_that_loses_its_core_now_and_then_still_gives_what_it_can() -> None:
    shared = Cost(refuse_s=3e-6, prepare_s=60e-6, answer_s=80e-6, pause_s=5e-3)
    run = ran(shared, Load(shared.capacity * 2), until_s=5.0)
    # A third of the core is gone. A limit that took each pause for a queue would end at one request at a time.
    assert run.goodput(BUDGET_S, SETTLED_S, 5.0) >= 0.5 * shared.capacity


def test_under_lasting_load_the_queue_is_let_run_short_every_five_seconds() -> None:
    run = ran(HEAVY, Load(HEAVY.capacity * 3), until_s=12.0)
    sustained = float(np.median([limit for now_s, limit in run.limits if now_s > 1.0]))
    probes = [now_s for now_s, limit in run.limits if limit < sustained / 4]
    begins = [probes[0]] + [now_s for before_s, now_s in pairwise(probes) if now_s > before_s + 1]
    assert len(begins) in (2, 3)


def test_of_callers_in_a_hurry_only_those_are_admitted_who_will_not_wait_too_long() -> None:
    admission, now_s = new(first=10), 0.0
    # Before anything was measured there is no ground to refuse them.
    assert [admission.refusal(DEFAULT, 0.0, patience_s=0.001) for _ in range(4)] == [None] * 4
    for _ in range(4):
        admission.ended(0.001, 0.001)
    # One after the other, each a millisecond: of ten the last takes ten.
    for _ in range(20):
        assert [admission.refusal(CRITICAL, now_s) for _ in range(8)] == [None] * 8
        for place in range(8):
            admission.ended((place + 1) / 1000, now_s + (place + 1) / 1000)
        now_s += 0.01
    admitted = [admission.refusal(CRITICAL, now_s, patience_s=0.0045) for _ in range(8)]
    assert admitted == [None] * 4 + [Reason.DEADLINE] * 4
    assert admission.refusal(DEFAULT, now_s, patience_s=0.05) is None


@pytest.mark.parametrize("callers", [12, 100])
@pytest.mark.parametrize("patience_s", [0.006, 0.01, 0.015])
def test_callers_in_a_hurry_are_answered_where_answers_are_quick(callers: int, patience_s: float) -> None:
    answered, refused = simulate_callers(new(), callers=callers, patience_s=patience_s, together_s=0.002, until_s=2.0)
    assert answered >= 0.85 * callers / 0.002 * 2.0
    assert refused[Reason.DEADLINE] == 0


def test_callers_who_ask_for_the_impossible_do_not_open_the_limit() -> None:
    admission = new(first=10)
    _, refused = simulate_callers(admission, callers=20, patience_s=0.001, together_s=0.005, until_s=2.0)
    assert refused[Reason.DEADLINE] > 1_000
    assert admission.limit <= 20


@COSTS
@pytest.mark.parametrize("times", [2, 10])
@pytest.mark.parametrize("lull_s", [0.1, 0.2, 0.5])
def test_peak_after_peak_answers_take_no_longer(cost: Cost, times: int, lull_s: float) -> None:
    every_s = 1.5 + lull_s
    peaks = [Load(cost.capacity * times, begins_s=n * every_s, ends_s=n * every_s + 1.5) for n in range(6)]
    run = ran(cost, *peaks, until_s=6 * every_s)
    # A queue that ends with its peak must not be taken for requests that waited for no other.
    assert run.p99_s(5 * every_s) <= BUDGET_S
    assert run.goodput(BUDGET_S, 5 * every_s, 5 * every_s + 1.5) >= 0.7 * cost.capacity


@pytest.mark.parametrize(("begins_s", "pause_s"), [(0.0, 0.0), (1e5, 0.0), (0.0, 600.0), (1e5, 600.0)])
def test_a_time_without_requests_says_nothing(begins_s: float, pause_s: float) -> None:
    admission, taken_s = new(first=160), 0.025
    for now_s in (begins_s, begins_s + 0.1 + pause_s):
        for at_s in (now_s, now_s + 0.03, now_s + 0.06):
            begun = sum(admission.refusal(CRITICAL, at_s) is None for _ in range(100))
            for _ in range(begun):
                admission.ended(taken_s, at_s + taken_s)
    # They take half as long again as they should, with not half of the room taken: whatever the clock, and the pause.
    assert admission.limit == pytest.approx(64, rel=0.05)


@pytest.mark.parametrize(("patience_s", "age_s"), [(0.0, 0.0), (0.01, 0.01), (0.01, 0.2)])
def test_whose_deadline_is_over_is_not_begun(patience_s: float, age_s: float) -> None:
    admission = new()
    assert admission.refusal(CRITICAL, 0.0, patience_s=patience_s, age_s=age_s) is Reason.EXPIRED
    assert admission.in_flight == 0


def test_callers_who_give_up_at_once_say_nothing_of_the_time_that_is_needed() -> None:
    admission, patient = new(first=10), new(first=10)
    for step in range(2_000):
        now_s = step / 1000
        for each, telling in ((admission, False), (patient, True)):
            for _ in range(12):
                each.refusal(CRITICAL, now_s)
            for _ in range(10):
                each.ended(0.0005, now_s + 0.0005, telling=telling)
    assert admission.limit == 10
    assert patient.limit > 10


def test_the_more_are_refused_the_later_they_may_come_again() -> None:
    admission = new(first=10)
    calm = admission.pushbacks_ms(DEFAULT)
    for step in range(1_000):
        admission.refusal(DEFAULT, step / 1000)
    pressed = admission.pushbacks_ms(DEFAULT)
    assert len(set(calm)) > 2
    assert min(pressed) > max(calm)
    assert min(admission.pushbacks_ms(SHEDDABLE)) > min(pressed) > min(admission.pushbacks_ms(CRITICAL))
    assert max(admission.pushbacks_ms(SHEDDABLE)) <= 2_000


@given(st.lists(st.tuples(st.sampled_from(Criticality), st.integers(0, 3), st.floats(0, 0.2)), max_size=300))
def test_what_began_is_counted_until_it_ends_and_never_exceeds_the_limit(
    steps: list[tuple[Criticality, int, float]],
) -> None:
    admission, under_way, now_s = new(first=4, highest=8), 0, 0.0
    for criticality, ends, pause_s in steps:
        now_s += pause_s
        for _ in range(min(ends, under_way)):
            admission.ended(pause_s, now_s)
            under_way -= 1
        room = admission.limit
        if admission.refusal(criticality, now_s) is None:
            under_way += 1
            assert under_way < room + 1
        assert admission.in_flight == under_way
        assert 1 <= admission.limit <= 8


@pytest.mark.parametrize("per_s", [100, 300, 1_000])
def test_a_process_that_others_keep_from_the_core_refuses_hardly_anybody(per_s: float) -> None:
    # Requests then take long, of which no limit is the cause and no lower one the cure.
    cost = Cost(pause_s=0.02, slice_s=0.005, spread=0.2, turn_s=2e-3)
    came = []
    for seed in range(4):
        admission = Admission(Bounds(budget_s=0.05, highest=1024))
        run = simulate(admission, [Load(per_s)], until_s=12, cost=lambda _: cost, store_s=lambda _: 1e-3, seed=seed)
        came += run.came(begins_s=2.0)
    assert sum(not math.isnan(fate.refused_s) for fate in came) < 0.05 * len(came)
