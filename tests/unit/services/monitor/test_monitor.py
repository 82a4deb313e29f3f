"""The monitor on the in-memory twins: what it says of a known log."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path

import pytest
from httpx import ASGITransport, AsyncClient

from flywheel.contracts.decisions import DecisionLogged
from flywheel.contracts.topics import decisions_topic, event_topic
from flywheel.kernel.erasure import EraseKey
from services.monitor.observations import Observations
from services.monitor.state import State
from services.monitor.traffic import event_clock_speed
from tests.monitor_runs import Run, read_all, state_when
from tests.monitor_scene import NOW, Scene
from usecases.fraud import usecase


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
