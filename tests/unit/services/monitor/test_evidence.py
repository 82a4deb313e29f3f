"""The monitor tells whether every decision that serving answered is in the log."""

from __future__ import annotations

import orjson
from prometheus_client import REGISTRY

from flywheel.contracts.decisions import DecisionLogged, Fallback, Numbered, Unanswered
from flywheel.contracts.events import to_us
from flywheel.contracts.models import Role
from flywheel.contracts.topics import decisions_topic
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.ports import Record
from services.monitor.observations import Observations
from tests.monitor_scene import NOW, Scene
from usecases.fraud import usecase

DECISIONS = decisions_topic("fraud").name


def record(offset: int, logged: DecisionLogged) -> Record:
    return Record(DECISIONS, 0, offset, None, logged.to_bytes())


def read(decisions: list[DecisionLogged], first_offset: int = 0) -> Observations:
    seen = Observations(usecase, EraseKey(b"key", "fraud"), window=100, capacity=1_000)
    seen.read(record(first_offset + place, logged) for place, logged in enumerate(decisions))
    return seen


def decisions() -> list[DecisionLogged]:
    scene = Scene(per_day=40)
    scene.days(0, 1)
    return [DecisionLogged.model_validate_json(each.value) for each in scene.broker.records(DECISIONS)]


def test_a_decision_that_is_not_in_the_log_is_missing_until_it_is_said_to_be_lost() -> None:
    made = decisions()
    here = [*made[:10], *made[11:20]]
    late_us = to_us(NOW) + 1_000_000_000
    found = read(here).account.state(late_us)
    assert (found.answered, found.logged, found.unexplained) == (20, 19, 1)
    told = [*here[:-1], here[-1].model_copy(update={"lost_before": 1})]
    found = read(told).account.state(late_us)
    assert (found.lost, found.unexplained) == (1, 0)


def test_a_decision_that_was_sent_twice_counts_once() -> None:
    made = decisions()
    seen = read([*made[:20], *made[10:20]])
    assert (seen.decisions, seen.counts["repeats"]) == (20, 10)
    found = seen.account.state(to_us(NOW))
    assert (found.answered, found.logged, found.repeats) == (20, 20, 10)


def test_records_without_a_number_are_left_out() -> None:
    seen = read([logged.model_copy(update={"writer": "", "sequence": 0}) for logged in decisions()[:5]])
    assert (seen.decisions, seen.account.state(to_us(NOW)).answered) == (5, 0)


def test_what_a_log_has_forgotten_is_not_missing() -> None:
    found = read(decisions()[10:20], first_offset=10).account.state(to_us(NOW) + 1_000_000_000)
    assert (found.answered, found.logged, found.unexplained) == (10, 10, 0)


def test_state_and_metric_tell_it() -> None:
    scene = Scene(per_day=40)
    scene.days(0, 2)
    watch = scene.monitor().watch
    watch._observations.read(scene.broker.records(DECISIONS))
    watch._publish(0)
    evidence = watch.state.evidence
    assert evidence.answered == evidence.logged > 0
    labels = {"usecase": "fraud", "outcome": "logged"}
    assert REGISTRY.get_sample_value("flywheel_monitor_answered_decisions", labels) == evidence.logged


def test_what_a_record_tells_of_late_requests_is_heard_once() -> None:
    made = decisions()[:3]
    late = Unanswered(
        arm="canary", model_version="v9", fallback=Fallback.NONE, decided_at=NOW, model_ms=60.0, requests=3
    )
    told = Numbered(decided_at=NOW, unanswered=(late,)).model_dump(mode="json")["unanswered"]
    raw = orjson.dumps({**orjson.loads(made[1].to_bytes()), "unanswered": told})
    seen = Observations(usecase, EraseKey(b"key", "fraud"), window=100, capacity=1_000)
    values = [made[0].to_bytes(), raw, made[2].to_bytes(), raw]
    seen.read(Record(DECISIONS, 0, offset, None, value) for offset, value in enumerate(values))
    assert seen.arms.totals(Role.CANARY).unanswered == 3
    assert seen.arms.number(Role.CANARY, "v9") == 3
