"""A canary is led by the deployment log alone: forward while it does well, back when it does not, by one writer."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from flywheel.adapters.memory_model_store import MemoryModelStore
from flywheel.contracts.decisions import DecisionLogged, Fallback, Unanswered
from flywheel.contracts.events import to_us
from flywheel.contracts.models import Deployment, Role
from flywheel.contracts.shadows import ShadowScored
from flywheel.kernel.deployment import Author, first, with_role
from flywheel.kernel.maturity import Decided, Ledger
from flywheel.kernel.rollout import MOST_DECISIONS
from services.monitor.arms import Arms
from services.monitor.outcomes import compare_arms
from services.monitor.rollout import CanaryWatch
from services.monitor.shadows import Shadows
from tests.monitor_scene import NOW, Scene
from usecases.fraud import usecase

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)
AUTHOR = Author("somebody", BEGAN, "because")
LATER = BEGAN + timedelta(minutes=11)


def decided(
    arm: Role, number: float, *, version: str = "", score: float = 0.1, failed: bool = False, at: datetime = BEGAN
) -> DecisionLogged:
    """What of a decision tells of its model; `number` is milliseconds."""
    return DecisionLogged(
        decision_id="d1",
        request_id="r1",
        usecase="fraud",
        event_id="tx1",
        event_time=at,
        unit="c1",
        reasons=(),
        feature_names=(),
        features=(),
        feature_status={},
        feature_lag_ms=0.0,
        value=100.0,
        decided_at=at + timedelta(milliseconds=number),
        arm=arm,
        model_version="rule" if failed else version or {Role.CHAMPION: "v1", Role.CANARY: "v2"}[arm],
        fallback=Fallback.MODEL_UNAVAILABLE if failed else Fallback.NONE,
        stage_ms={"model": 0.2 + number % 7 / 100},
        score=score,
        action="approve",
    )


class Led:
    """A canary at one of a hundred beside a champion."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.store = MemoryModelStore()
        start = first("fraud", "v1", "salt", AUTHOR)
        self.store.deploy(start)
        self.store.deploy(with_role(start, Role.CANARY, "v2", 0.01, AUTHOR))
        self.arms = Arms()
        self.watch = CanaryWatch(usecase, self.store, self.arms, enabled=enabled)
        self.rng = np.random.default_rng(1)

    def decide(self, arm: Role, number: int, *, failing: float = 0.0, at: datetime = BEGAN) -> None:
        for place in range(number):
            failed = bool(self.rng.random() < failing)
            score = float(self.rng.beta(1, 20))
            when = 5_000 * place / number
            self.arms.add(decided(arm, when, score=score, failed=failed, at=at), f"{arm}{place % 500}")

    def consider(self, now: datetime = LATER) -> tuple[str, str | None, float]:
        self.watch.consider(self.store.current("fraud"), now)
        newest = self.store.current("fraud")
        assert newest is not None
        return newest.champion, newest.canary, newest.canary_share


def test_a_good_canary_takes_step_after_step_and_becomes_the_champion() -> None:
    led = Led()
    shares = []
    for step in range(3):
        at = BEGAN + timedelta(minutes=11 * step)
        led.decide(Role.CHAMPION, 5_000, at=at)
        led.decide(Role.CANARY, 1_000, at=at)
        shares.append(led.consider(at + timedelta(minutes=11)))
    assert shares == [("v1", "v2", 0.05), ("v1", "v2", 0.25), ("v2", None, 0.0)]
    newest = led.store.deployments("fraud")[-1]
    assert (newest.deployed_by, newest.withdrawn) == ("monitor", None)
    assert "crossed no bound" in newest.reason


def test_decisions_of_the_step_before_do_not_count() -> None:
    led = Led()
    led.decide(Role.CHAMPION, 5_000)
    led.decide(Role.CANARY, 1_000)
    assert led.consider() == ("v1", "v2", 0.05)
    assert led.consider(LATER + timedelta(minutes=11)) == ("v1", "v2", 0.05)


def test_a_canary_whose_model_fails_is_taken_back_within_a_few_decisions() -> None:
    led = Led()
    led.decide(Role.CHAMPION, 400)
    led.decide(Role.CANARY, 5, failing=1.0)
    assert led.consider(BEGAN + timedelta(seconds=3)) == ("v1", None, 0.0)
    newest = led.store.deployments("fraud")[-1]
    assert (newest.withdrawn, newest.deployed_by) == ("v2", "monitor")
    assert "its model failed in 5 of 5 runs" in newest.reason


def test_few_units_that_decide_often_need_not_meet_a_good_canary() -> None:
    led = Led()
    for number in range(3_000):
        led.arms.add(decided(Role.CHAMPION, number), f"c{number % 60}")
    assert led.consider() == ("v1", "v2", 0.01)
    for number in range(2_000):
        led.arms.add(decided(Role.CHAMPION, number), f"c{number}")
    assert led.consider() == ("v1", None, 0.0)


def test_requests_that_a_process_answered_together_are_one_run() -> None:
    arms = Arms()
    for number, writer in ((1, "a"), (1, "a"), (1, "b"), (2, "a")):
        arms.add(decided(Role.CANARY, number).model_copy(update={"writer": writer}), "c1")
    run = arms.seen(Role.CANARY, "v2").run
    assert [int(run[0]) == int(other) for other in run] == [True, True, False, False]


def test_what_a_canary_could_not_score_is_no_decision_of_the_champions() -> None:
    ledger = Ledger(maturity_us=0, capacity=10)
    for number, arm in enumerate((Role.CHAMPION, Role.CHALLENGER, Role.CANARY)):
        version = "v1" if arm is Role.CHAMPION else "rule"
        of_arm = {"challenger": arm is Role.CHALLENGER, "canary": arm is Role.CANARY}
        at_us = to_us(LATER)
        fallback = arm is not Role.CHAMPION
        kept = {"version": version, "score": 0.1, "amount": 1.0, "declined": False, "stepped_up": False}
        ledger.decide(Decided(f"t{number}", at_us, at_us, f"c{number}", fallback=fallback, **of_arm, **kept))  # type: ignore[arg-type]
    roles = with_role(first("fraud", "v1", "salt", AUTHOR), Role.CHALLENGER, "v3", 0.5, AUTHOR)
    compared = compare_arms(ledger.outcomes(), with_role(roles, Role.CANARY, "v2", 0.1, AUTHOR), usecase)
    assert compared is not None
    assert [(arm.decisions, arm.fallback_share) for arm in compared.arms] == [(1, 0), (1, 1)]


def test_what_failed_for_want_of_features_tells_nothing_of_a_model() -> None:
    arms = Arms()
    for fallback in (Fallback.FEATURES_UNAVAILABLE, Fallback.FEATURES_STALE):
        arms.add(decided(Role.CANARY, 1).model_copy(update={"fallback": fallback}), "c1")
    assert arms.number(Role.CANARY, "v2") == 0
    assert arms.totals(Role.CANARY).fallback_share == 1


def test_what_came_too_late_is_evidence_of_its_run_and_no_decision() -> None:
    arms = Arms()
    at = BEGAN + timedelta(seconds=1)
    arms.add(decided(Role.CANARY, 0, at=at).model_copy(update={"writer": "a"}), "c1")
    late = Unanswered(
        arm="canary", model_version="v2", fallback=Fallback.NONE, decided_at=at, model_ms=60.0, requests=2
    )
    arms.add_unanswered(late, "a")
    arms.add_unanswered(late.model_copy(update={"model_version": "v1"}), "b")
    by_rule = decided(Role.CANARY, 3, at=at).model_copy(update={"fallback": Fallback.DEADLINE})
    arms.add(by_rule, "c2")
    seen = arms.seen(Role.CANARY, "v2")
    assert seen.late.tolist() == [False, True, True, True]
    assert len(set(seen.run[:3].tolist())) == 1
    assert seen.action.tolist() == ["approve", "", "", "approve"]
    assert seen.model_ms.tolist()[:3] == [0.2, 60.0, 60.0]
    assert math.isnan(seen.model_ms[3])
    totals = arms.totals(Role.CANARY)
    assert (totals.answered, totals.by_fallback, totals.unanswered) == (2, 1, 4)


@pytest.mark.parametrize("fallback", [Fallback.NONE, Fallback.FEATURES_UNAVAILABLE, Fallback.DEADLINE])
def test_what_came_too_late_is_in_the_totals_whatever_made_it_late(fallback: Fallback) -> None:
    arms = Arms()
    late = Unanswered(arm="canary", model_version="v2", fallback=fallback, decided_at=BEGAN, requests=3)
    arms.add_unanswered(late, "a")
    assert arms.totals(Role.CANARY).unanswered == 3
    assert arms.number(Role.CANARY, "v2") == (0 if fallback is Fallback.FEATURES_UNAVAILABLE else 3)


def test_a_note_of_many_moments_is_counted_whole_and_leaves_room_for_other_evidence() -> None:
    arms = Arms()
    late = Unanswered(
        arm="canary", model_version="v2", fallback=Fallback.NONE, decided_at=BEGAN, requests=4 * MOST_DECISIONS
    )
    arms.add_unanswered(late, "a")
    for number in range(5_000):
        arms.add(decided(Role.CANARY, number), f"c{number}")
    arms.begin(to_us(BEGAN))
    assert arms.totals(Role.CANARY).unanswered == 4 * MOST_DECISIONS
    assert arms.number(Role.CANARY, "v2") == 6_000


def test_a_new_step_begins_with_the_totals_of_all_that_was_after_its_moment() -> None:
    arms = Arms()
    for number, fallback in enumerate(Fallback):
        for second in (0, 10, 20):
            at = BEGAN + timedelta(seconds=second)
            arms.add(decided(Role.CANARY, number, at=at).model_copy(update={"fallback": fallback}), "c1")
            late = Unanswered(arm="canary", model_version="v2", fallback=fallback, decided_at=at, requests=2)
            arms.add_unanswered(late, "a")
    arms.begin(to_us(BEGAN + timedelta(seconds=10)))
    kinds = len(Fallback)
    totals = arms.totals(Role.CANARY)
    assert (totals.answered, totals.by_fallback, totals.unanswered) == (2 * kinds, 2 * (kinds - 1), 4 * kinds)


def test_a_canary_that_makes_requests_late_is_taken_back_though_its_answers_are_as_good() -> None:
    led = Led()
    led.decide(Role.CHAMPION, 5_000)
    led.decide(Role.CANARY, 500)
    for number in range(20):
        at = BEGAN + timedelta(seconds=number / 10)
        late = Unanswered(
            arm="canary", model_version="v2", fallback=Fallback.NONE, decided_at=at, model_ms=60.0, requests=1
        )
        led.arms.add_unanswered(late, "w")
    assert led.consider(BEGAN + timedelta(seconds=6)) == ("v1", None, 0.0)
    assert "the time was over in 20 of 520 runs" in led.store.deployments("fraud")[-1].reason


def test_of_an_arm_with_many_decisions_runs_from_all_of_its_time_are_kept() -> None:
    arms = Arms()
    for number in range(3 * MOST_DECISIONS):
        logged = decided(Role.CHAMPION, number)
        for place in range(2):
            arms.add(logged, f"c{number} {place}")
    seen = arms.seen(Role.CHAMPION, "v1")
    assert MOST_DECISIONS / 2 * 0.9 < len(seen) <= MOST_DECISIONS
    assert seen.decisions == pytest.approx(6 * MOST_DECISIONS, rel=0.1)
    quarters = np.histogram(seen.at_us, bins=4)[0]
    assert quarters.min() > 0.9 * len(seen) / 4
    assert set(np.unique(seen.run, return_counts=True)[1].tolist()) == {2}
    arms.begin(int(seen.at_us.max()))
    assert arms.number(Role.CHAMPION, "v1") == 0


def test_the_share_of_fallbacks_is_told_by_arm() -> None:
    led = Led()
    led.watch.follow(led.store.current("fraud"))
    led.decide(Role.CHAMPION, 10)
    led.decide(Role.CANARY, 4, failing=1.0)
    led.decide(Role.CANARY, 12)
    shown = led.watch.state(led.store.current("fraud"), LATER)
    assert shown is not None
    assert (shown.fallback_share, shown.champion_fallback_share) == (0.25, 0.0)


def test_of_two_monitors_one_writes_and_the_other_goes_on() -> None:
    led = Led()
    other = CanaryWatch(usecase, led.store, led.arms, enabled=True)
    led.decide(Role.CHAMPION, 5_000)
    led.decide(Role.CANARY, 1_000)
    same = led.store.current("fraud")
    led.watch.consider(same, LATER)
    other.consider(same, LATER)
    assert len(led.store.deployments("fraud")) == 3
    assert led.consider() == ("v1", "v2", 0.05)


def test_a_monitor_that_does_not_lead_only_shows() -> None:
    led = Led(enabled=False)
    led.decide(Role.CHAMPION, 5_000)
    led.decide(Role.CANARY, 1_000)
    assert led.consider() == ("v1", "v2", 0.01)
    shown = led.watch.state(led.store.current("fraud"), LATER)
    assert shown is not None
    assert (shown.version, shown.share, shown.next_share, shown.decisions) == ("v2", 0.01, 0.05, 1_000)
    assert not shown.judged
    assert shown.judged_decisions == 0


def test_the_guard_tells_at_how_many_decisions_it_judged_and_in_a_new_step_none() -> None:
    led = Led()
    led.decide(Role.CHAMPION, 5_000)
    led.decide(Role.CANARY, 600)
    assert led.consider() == ("v1", "v2", 0.01)
    shown = led.watch.state(led.store.current("fraud"), LATER)
    assert shown is not None
    assert (shown.judged, shown.judged_decisions, shown.crossed) == (True, 600, None)
    led.decide(Role.CANARY, 400)
    assert led.consider() == ("v1", "v2", 0.05)
    shown = led.watch.state(led.store.current("fraud"), LATER)
    assert shown is not None
    assert (shown.share, shown.judged_decisions) == (0.05, 0)


def test_a_canary_that_is_to_go_is_not_called_good_while_the_log_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(_: Deployment) -> None:
        raise OSError("away")

    led = Led()
    led.decide(Role.CHAMPION, 400)
    led.decide(Role.CANARY, 5, failing=1.0)
    monkeypatch.setattr(led.store, "deploy", away)
    assert led.consider(BEGAN + timedelta(seconds=3)) == ("v1", "v2", 0.01)
    shown = led.watch.state(led.store.current("fraud"), LATER)
    assert shown is not None
    assert "its model failed in 5 of 5 runs" in str(shown.crossed)


def test_whoever_is_erased_is_gone_from_the_arms() -> None:
    led = Led()
    led.decide(Role.CANARY, 1_000)
    led.arms.forget(f"{Role.CANARY}7")
    assert led.arms.number(Role.CANARY, "v2") == 998


def test_a_broken_canary_is_taken_back_by_the_whole_monitor(tmp_path: Path) -> None:
    scene = Scene()
    scene.deploy()
    current = scene.models.current("fraud")
    assert current is not None
    hour_ago = Author("somebody", NOW - timedelta(hours=1), "because")
    scene.models.deploy(with_role(current, Role.CANARY, "v5", 0.05, hour_ago))
    scene.days(0, 4)
    for number in range(6):
        scene.decide(Role.CANARY, f"c{number}", Fallback.MODEL_UNAVAILABLE, seconds_ago=9.0 - number)
    monitor = scene.monitor(data_dir=tmp_path)
    monitor.watch.start()
    try:
        until = time.monotonic() + 10
        while monitor.watch.state.model is None or monitor.watch.state.model.withdrawn != "v5":
            assert time.monotonic() < until, monitor.watch.state.canary
            time.sleep(0.005)
    finally:
        monitor.watch.stop()
    assert monitor.watch.state.canary is None


@pytest.mark.parametrize("otherwise", [0, 30])
def test_the_shadow_is_compared_with_what_was_answered(otherwise: int) -> None:
    shadows, rng = Shadows(), np.random.default_rng(3)
    deployment = with_role(first("fraud", "v1", "salt", AUTHOR), Role.SHADOW, "v2", 0.0, AUTHOR)
    for number in range(300):
        served = float(rng.beta(1, 20))
        shadows.add(
            ShadowScored(
                decision_id=f"d{number}",
                usecase="fraud",
                decided_at=BEGAN,
                version="v2" if number < 200 else "v3",
                score=min(served + 0.01, 1.0),
                action="decline" if number < otherwise else "approve",
                served_version="v1",
                served_score=served,
                served_action="approve",
            )
        )
    found = shadows.state(deployment)
    assert found is not None
    assert (found.version, found.decisions, found.otherwise_share) == ("v2", 200, otherwise / 200)
    assert found.mean_difference == pytest.approx(0.01)
    assert found.psi is not None
    assert shadows.state(first("fraud", "v1", "salt", AUTHOR)) is None
