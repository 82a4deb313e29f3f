"""Settled decisions tell quality, changed traffic is drift, and both may ask for a new model."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flywheel.contracts.decisions import DecisionLogged
from flywheel.contracts.topics import decisions_topic, event_topic
from tests.monitor_runs import Run, read_all, state_when
from tests.monitor_scene import NOW, START, Scene


def test_a_ledger_too_small_for_the_traffic_says_what_to_set(run: Run) -> None:
    scene = Scene(per_day=100)
    scene.days(0, 12)
    small = read_all(run(scene, monitor_capacity=300), 1_200)
    assert small.maturity.forgotten_early == 900
    assert small.quality.decisions < 300
    assert "set FLYWHEEL_MONITOR_CAPACITY, now 300" in str(small.maturity.advice)


def test_a_ledger_that_is_large_enough_needs_no_advice(run: Run) -> None:
    scene = Scene(per_day=100)
    scene.days(0, 12)
    maturity = read_all(run(scene), 1_200).maturity
    assert (maturity.forgotten_early, maturity.advice) == (0, None)


def test_only_settled_decisions_count_towards_quality(run: Run) -> None:
    scene = Scene(per_day=100)
    scene.days(0, 3)
    state = read_all(run(scene), 300)
    assert state.loop.event_time is not None
    settled = state.quality.decisions
    assert settled + state.maturity.waiting == 300
    assert {point.day for point in state.quality_by_day} <= {"2018-06-01", "2018-06-02"}


def test_a_decision_dated_today_settles_nothing(run: Run) -> None:
    scene = Scene(per_day=100)
    scene.days(0, 10)
    monitor = run(scene)
    before = read_all(monitor, 1_000)
    topic = decisions_topic("fraud").name
    sound = DecisionLogged.model_validate_json(scene.broker.records(topic)[0].value)
    dated = sound.model_copy(update={"event_id": "manual-1", "event_time": NOW})
    scene.broker.append(topic, b"k", dated.to_bytes())
    after = read_all(monitor, 1_001)
    assert after.loop.event_time == before.loop.event_time
    assert after.quality == before.quality
    assert after.maturity.waiting == before.maturity.waiting + 1


def test_an_event_whose_time_cannot_be_read_is_counted_but_tells_no_time(run: Run) -> None:
    scene = Scene(per_day=50)
    scene.days(0, 1)
    for poison in (b"", b"[]", b'{"event": null}', b'{"event": {"event_time": 4102444800}}', b'{"event": {}}'):
        scene.broker.append(event_topic("fraud", "transaction").name, b"k", poison)
    state = read_all(run(scene), 50)
    assert (state.loop.events, state.loop.unreadable) == (55, 5)
    assert state.loop.event_time is not None
    assert state.loop.event_time.year == 2018


def test_a_chargeback_changes_the_matured_quality(run: Run) -> None:
    scene = Scene(per_day=100)
    scene.days(0, 10)
    monitor = run(scene)
    before = read_all(monitor, 1_000)
    scene.charge_back(scene.transaction_id(1), START + timedelta(days=5))
    after = state_when(monitor, lambda s: s.quality.positives == before.quality.positives + 1)
    assert after.loop.labels == before.loop.labels + 1
    assert after.quality.decisions == before.quality.decisions


def test_unchanged_traffic_does_not_drift_and_changed_does(run: Run) -> None:
    calm = Scene()
    calm.deploy()
    calm.days(0, 5)
    state = read_all(run(calm), 4_000)
    assert not any(variable.exceeds for variable in state.drift.variables)

    moved = Scene()
    moved.deploy()
    moved.days(0, 5, amounts_times=2.5)
    state = read_all(run(moved), 4_000)
    exceeding = {variable.name for variable in state.drift.variables if variable.exceeds}
    assert "amount_cents" in exceeding
    assert "card_transaction_count_24h" not in exceeding


def test_the_clock_alone_is_never_drift(run: Run) -> None:
    scene = Scene()
    scene.deploy()
    scene.days(0, 2)
    state = read_all(run(scene), 1_600)
    calendar = {variable.name for variable in state.drift.variables if variable.follows_calendar}
    assert calendar == {"hour_of_day", "is_weekend"}


def test_sustained_drift_asks_for_a_new_model_once(run: Run) -> None:
    scene = Scene(per_day=300)
    scene.deploy()
    monitor = run(scene, monitor_alarm_windows=2, monitor_window=500)
    for first in range(0, 12, 2):
        scene.days(first, 2, amounts_times=2.5)
        # One window after the other, as they come in live.
        read_all(monitor, (first + 2) * scene.per_day)
    state = state_when(monitor, lambda s: s.retraining.last_requested_at is not None)
    assert state.drift.score is not None
    assert state.drift.score.drifted
    assert len(scene.requests) == 1
    assert scene.requests[0].reason.startswith("scores drifted")


def test_lost_quality_asks_for_a_new_model(run: Run) -> None:
    scene = Scene(per_day=300)
    scene.deploy(published_auc=0.95)
    scene.days(0, 14, blind=True)
    state = state_when(run(scene), lambda s: s.retraining.last_requested_at is not None)
    assert "matured AUC" in str(state.retraining.last_reason)
    assert len(scene.requests) == 1


@pytest.mark.parametrize("settings", [{"monitor_retrains": False}, {"monitor_retrain_every_minutes": 600.0}])
def test_nothing_is_asked_for_when_switched_off_or_soon_after_a_run(run: Run, settings: dict[str, object]) -> None:
    scene = Scene(per_day=300)
    scene.deploy(published_auc=0.95)
    scene.training_run()
    scene.days(0, 14, blind=True)
    state = read_all(run(scene, **settings), 4_200)
    assert state.quality.auc is not None
    assert state.quality.auc < 0.6
    assert scene.requests == []
