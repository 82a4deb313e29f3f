"""The monitor on the in-memory twins: what it says of a known log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from httpx import ASGITransport, AsyncClient

from flywheel.contracts.decisions import DecisionLogged, Fallback
from flywheel.contracts.models import Role
from flywheel.contracts.topics import decisions_topic, event_topic
from flywheel.kernel.deployment import Author, with_role
from flywheel.kernel.erasure import EraseKey
from services.monitor.bootstrap import Monitor
from services.monitor.observations import Observations
from services.monitor.state import State
from services.monitor.traffic import event_clock_speed
from tests.monitor_scene import CHALLENGER, CHAMPION, NOW, START, Scene
from usecases.fraud import usecase

SETTINGS = {"monitor_window": 1_000, "monitor_window_least": 200, "monitor_refresh_s": 0.02}
Run = Callable[..., Monitor]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    started: list[Monitor] = []

    def start(scene: Scene, **settings: object) -> Monitor:
        monitor = scene.monitor(**{**SETTINGS, "data_dir": tmp_path, **settings})
        monitor.watch.start()
        started.append(monitor)
        return monitor

    yield start
    for monitor in started:
        monitor.watch.stop()


def state_when(monitor: Monitor, reached: Callable[[State], bool]) -> State:
    """The first state that has got there; fails after ten seconds."""
    until = time.monotonic() + 10
    while not reached(monitor.watch.state):
        assert time.monotonic() < until, f"not reached; last loop: {monitor.watch.state.loop}"
        time.sleep(0.005)
    return monitor.watch.state


def read_all(monitor: Monitor, decisions: int) -> State:
    return state_when(monitor, lambda s: s.loop.decisions == decisions and s.loop.lag_records == 0)


def test_an_empty_log_says_what_is_awaited(run: Run) -> None:
    state = state_when(run(Scene()), lambda s: s.loop.broker_answers)
    assert state.model is None
    assert state.experiment is None
    assert state.quality.decisions == 0
    assert state.quality.auc is None
    assert state.drift.variables == ()


def test_everything_is_counted_once(run: Run) -> None:
    scene = Scene(per_day=100)
    scene.days(0, 3)
    state = read_all(run(scene), 300)
    assert state.loop.events == 300
    assert state.mix.decisions == 300
    shares = (state.mix.approved, state.mix.stepped_up, state.mix.declined)
    assert sum(share or 0 for share in shares) == pytest.approx(1)
    assert sum(p.approved + p.stepped_up + p.declined for p in state.mix.series) > 0


def test_records_read_twice_change_nothing(run: Run) -> None:
    scene = Scene(per_day=100)
    scene.deploy()
    scene.days(0, 12)
    once = read_all(run(scene), 1_200)
    for topic in (decisions_topic("fraud").name, event_topic("fraud", "chargeback").name):
        for record in scene.broker.records(topic):
            scene.broker.append(topic, record.key or b"", record.value)
    twice = state_when(run(scene), lambda s: s.loop.repeats == 1_200 and s.loop.lag_records == 0)
    assert twice.quality == once.quality
    assert twice.experiment == once.experiment
    assert twice.mix == once.mix


def test_lag_is_told_in_event_time_too_while_a_world_plays(run: Run) -> None:
    scene = Scene(per_day=800)
    scene.days(0, 3)
    topic = decisions_topic("fraud").name
    dated = DecisionLogged.model_validate_json(scene.broker.records(topic)[0].value)
    # Asked for by hand in between, with today's date.
    dated = dated.model_copy(update={"event_id": "manual-1", "event_time": NOW, "decided_at": NOW})
    scene.broker.append(topic, b"k", dated.to_bytes())
    freshness = read_all(run(scene, monitor_window=2_000), 2_401).freshness
    # The scene decides 40 times a second of wall clock, and 800 times a day of event time.
    assert freshness.event_clock_speed == pytest.approx(86_400 / 800 * 40, rel=0.1)
    assert freshness.event_clock_speed is not None
    assert freshness.lag_p50_ms is not None
    assert freshness.lag_p50_event_s == pytest.approx(freshness.lag_p50_ms / 1_000 * freshness.event_clock_speed)


def test_a_pause_does_not_slow_the_event_clock_and_few_decisions_tell_nothing() -> None:
    scene = Scene(per_day=400)
    scene.days(0, 2)
    topic = decisions_topic("fraud").name
    seen = [DecisionLogged.model_validate_json(record.value) for record in scene.broker.records(topic)]
    paused = [
        logged.model_copy(update={"decided_at": logged.decided_at - timedelta(hours=3)}) if number < 300 else logged
        for number, logged in enumerate(seen)
    ]
    assert event_clock_speed(paused) == pytest.approx(event_clock_speed(seen), rel=0.1)
    assert event_clock_speed(seen[:99]) is None
    assert event_clock_speed([seen[0]] * 200) is None


def test_a_rebalance_that_gives_everything_again_changes_nothing() -> None:
    scene = Scene(per_day=100)
    scene.deploy()
    scene.days(0, 12)
    scene.broker.append(decisions_topic("fraud").name, b"k", b"{")
    observations = Observations(usecase, EraseKey(b"k", usecase.name), window=500, capacity=700)
    records = [record for topic in observations.topics for record in scene.broker.records(topic)]

    def shown() -> tuple[object, ...]:
        found = observations.ledger.outcomes()
        kept = (found.event_time_us.tolist(), found.positive.tolist(), observations.ledger.forgotten_early)
        return observations.events, observations.decisions, dict(observations.counts), list(observations.recent), kept

    observations.read(records)
    once = shown()
    observations.read(records)
    assert shown() == once
    assert observations.decisions == 1_200


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


def test_unreadable_records_are_counted_and_passed_over(run: Run) -> None:
    scene = Scene(per_day=50)
    for poison in (b"", b"{", b"\xff\xfe", b"[]", b'{"event": {}}', b'{"event": null}', b"null"):
        scene.broker.append(decisions_topic("fraud").name, b"k", poison)
        scene.broker.append(event_topic("fraud", "chargeback").name, b"k", poison)
    scene.days(0, 1)
    assert read_all(run(scene), 50).loop.unreadable == 14


@pytest.mark.parametrize("change", [{"score": float("nan")}, {"value": float("inf")}, {"features": (1.0,)}])
def test_a_decision_that_cannot_be_measured_is_passed_over(run: Run, change: dict[str, object]) -> None:
    scene = Scene(per_day=300)
    scene.deploy()
    scene.days(0, 10)
    topic = decisions_topic("fraud").name
    sound = DecisionLogged.model_validate_json(scene.broker.records(topic)[0].value)
    # As another writer might put it there: NaN and infinity as JSON constants, whatever our own model does.
    fields = json.loads(sound.model_dump_json()) | {"event_id": "tx-odd"} | change
    scene.broker.append(topic, b"k", json.dumps(fields).encode())
    state = read_all(run(scene), 3_000)
    assert state.loop.unreadable == 1
    assert state.quality.auc is not None


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


def test_the_experiment_compares_what_this_deployment_decided(run: Run) -> None:
    scene = Scene(per_day=300)
    scene.deploy()
    scene.days(0, 14)
    found = read_all(run(scene), 4_200).experiment
    assert found is not None
    champion, challenger = found.arms
    assert (champion.version, challenger.version) == (CHAMPION, CHALLENGER)
    assert champion.decisions + challenger.decisions == 4_200
    assert champion.units + challenger.units == scene.cards
    assert found.sample_ratio_p is not None
    assert found.sample_ratio_p > 0.001
    assert found.difference_per_1000 is not None
    interval = found.difference_per_1000
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < 0 < interval.high
    assert found.verdict.startswith("Not enough matured outcomes yet")


def test_without_a_challenger_there_is_no_experiment(run: Run) -> None:
    scene = Scene(per_day=50)
    scene.deploy(challenger=False)
    scene.days(0, 10)
    assert read_all(run(scene), 500).experiment is None


def test_of_few_units_no_split_is_called_broken(run: Run) -> None:
    scene = Scene()
    scene.deploy()
    for number in range(140):
        scene.decide(Role.CHAMPION, f"c{number}", Fallback.NONE)
    monitor = run(scene)
    few = read_all(monitor, 140).experiment
    assert few is not None
    assert (few.units_least, few.sample_ratio_p) == (150, None)
    assert few.verdict.startswith("Too few decisions yet")
    for number in range(140, 150):
        scene.decide(Role.CHAMPION, f"c{number}", Fallback.NONE)
    enough = read_all(monitor, 150).experiment
    assert enough is not None
    assert enough.sample_ratio_p is not None
    assert enough.verdict.startswith("The split is broken")


def test_the_comparison_ends_with_the_challenger_it_is_of(run: Run) -> None:
    scene = Scene(per_day=50)
    scene.deploy()
    scene.days(0, 2)
    monitor = run(scene, monitor_quality_refresh_s=3_600.0)
    assert read_all(monitor, 100).model is not None
    state_when(monitor, lambda s: s.experiment is not None)
    current = scene.models.current("fraud")
    assert current is not None
    scene.models.deploy(with_role(current, Role.SHADOW, CHALLENGER, 0.0, Author("somebody", NOW, "because")))
    state = state_when(monitor, lambda s: s.shadow is not None)
    assert state.experiment is None
    assert state.model is not None
    assert (state.model.challenger, state.model.shadow) == (None, CHALLENGER)


def test_cards_are_shown_as_hashes_only(run: Run) -> None:
    scene = Scene(per_day=50)
    scene.days(0, 1)
    monitor = run(scene)
    assert read_all(monitor, 50).last_decisions
    assert b'"c000' not in monitor.watch.state_json


def test_restarts_are_read_from_the_supervisor(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "restarts.json").write_text('{"serving": 2}')
    assert state_when(run(Scene()), lambda s: bool(s.loop.restarts)).loop.restarts == {"serving": 2}


async def test_it_is_ready_while_the_broker_answers(run: Run) -> None:
    scene = Scene()
    monitor = run(scene)
    state_when(monitor, lambda s: s.loop.broker_answers)
    async with AsyncClient(transport=ASGITransport(monitor.app), base_url="http://monitor") as client:
        assert (await client.get("/readyz")).status_code == 200
        scene.broker.away = True
        state_when(monitor, lambda s: not s.loop.broker_answers)
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        scene.broker.away = False
        state_when(monitor, lambda s: s.loop.broker_answers)
        assert (await client.get("/readyz")).status_code == 200


async def test_state_metrics_and_page_are_served(run: Run) -> None:
    scene = Scene()
    scene.deploy()
    scene.days(0, 10)
    monitor = run(scene)
    state = read_all(monitor, 8_000)
    async with AsyncClient(transport=ASGITransport(monitor.app), base_url="http://monitor") as client:
        told = State.model_validate_json((await client.get("/api/state")).content)
        assert told.quality == state.quality
        metrics = (await client.get("/metrics")).text
        assert f'flywheel_monitor_matured_decisions{{arm="all",usecase="fraud"}} {state.quality.decisions}' in metrics
        assert 'flywheel_monitor_psi{usecase="fraud",variable="amount_cents"}' in metrics
        page = (await client.get("/")).text
        assert "/*style*/" not in page
        assert "src=" not in page
        assert "State" in (await client.get("/openapi.json")).json()["components"]["schemas"]


def test_a_reader_that_breaks_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    monitor = scene.monitor()
    told: list[bool] = []
    monitor.watch.on_failure = lambda: told.append(True)
    monkeypatch.setattr(scene.broker, "read", lambda *_: 1 / 0)
    scene.days(0, 1)
    monitor.watch.start()
    until = time.monotonic() + 5
    while not told and time.monotonic() < until:
        time.sleep(0.005)
    assert told
    assert monitor.watch.ready() == (False, "the log is not read any more")
