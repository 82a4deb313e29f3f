"""Every answered decision is counted and handed to the log; warnings do not flood; people stay pseudonymous."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from flywheel.adapters.logs import Pseudonyms
from flywheel.adapters.memory_decision_log import MemoryDecisionLog
from flywheel.contracts.decisions import DecisionLogged, FeatureStatus, Numbered
from flywheel.contracts.events import to_us
from flywheel.contracts.models import Role
from flywheel.kernel.subject import InvalidSubject
from services.serving.decisions.journal import Journal
from tests.decided import decided
from tests.serving_parts import USECASE


class Counts:
    def __init__(self) -> None:
        self.acknowledged = 0
        self.lost: list[str] = []
        self.now_s = 0.0

    def acknowledge(self) -> None:
        self.acknowledged += 1


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def log(counts: Counts) -> MemoryDecisionLog:
    return MemoryDecisionLog(on_acknowledged=counts.acknowledge, on_lost=counts.lost.append, capacity=2)


@pytest.fixture
def captured() -> Iterator[list[structlog.typing.EventDict]]:
    structlog.reset_defaults()
    logging.root.setLevel(logging.DEBUG)
    with capture_logs() as lines:
        yield lines


def journal(log: MemoryDecisionLog, counts: Counts, *, verbose: bool = False) -> Journal:
    return Journal(USECASE, log, Pseudonyms("key"), verbose=verbose, steady_s=lambda: counts.now_s)


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"usecase": "fraud", **labels}) or 0.0


def test_served_decisions_are_acknowledged_lost_or_in_flight(log: MemoryDecisionLog, counts: Counts) -> None:
    desk = journal(log, counts)
    labels = {"action": "step_up", "arm": "champion", "fallback": "none"}
    before = sample("flywheel_serving_decisions_total", **labels)
    desk.answered([decided()])
    log.away = True
    for number in range(3):
        desk.answered([decided(decision_id=f"d{number}")])
    assert sample("flywheel_serving_decisions_total", **labels) - before == 4
    assert (counts.acknowledged, counts.lost, log.in_flight) == (1, ["queue_full"], 2)
    assert log.records[0] == (b"c-secret", decided().to_bytes())
    assert sample("flywheel_serving_feature_lag_seconds") == 1.5


def test_an_unknown_lag_leaves_the_gauge(log: MemoryDecisionLog, counts: Counts) -> None:
    desk = journal(log, counts)
    desk.answered([decided()])
    desk.answered([decided(feature_lag_ms=-1.0)])
    assert sample("flywheel_serving_feature_lag_seconds") == 1.5


def test_expired_tables_and_missing_windows_are_told_with_the_age_of_the_loads(
    log: MemoryDecisionLog, counts: Counts
) -> None:
    desk = journal(log, counts)
    told = {("card", "missing"): 2, ("card", "fresh"): 1, ("profile", "stale"): 2, ("profile", "missing"): 1}
    name = "flywheel_serving_feature_status_total"
    before = {each: sample(name, source=each[0], status=each[1]) for each in told}
    missing, stale, fresh = FeatureStatus.MISSING, FeatureStatus.STALE, FeatureStatus.FRESH
    expired = {"profile": 32 * 86_400_000.0, "segments": -500.0}
    desk.answered([decided(feature_status={"card": missing, "profile": stale}, feature_age_ms=expired)])
    desk.answered([decided(feature_status={"card": missing, "profile": stale}, feature_age_ms=expired)])
    desk.answered([decided(feature_status={"card": fresh, "profile": missing})])
    assert {each: sample(name, source=each[0], status=each[1]) - before[each] for each in told} == told
    assert sample("flywheel_serving_attribute_age_seconds", table="profile") == 32 * 86_400
    assert sample("flywheel_serving_attribute_age_seconds", table="segments") == -0.5


def test_a_warning_of_a_kind_comes_once_in_a_while_with_a_count(
    log: MemoryDecisionLog, counts: Counts, captured: list[structlog.typing.EventDict]
) -> None:
    desk = journal(log, counts)
    for _ in range(100):
        desk.features_unavailable("hangs")
    desk.model_failed("v1", "breaks")
    assert [line["event"] for line in captured] == ["features_unavailable", "model_failed"]
    counts.now_s += 6
    desk.features_unavailable("hangs")
    assert (captured[-1]["event"], captured[-1]["unsaid"]) == ("features_unavailable", 99)


def test_a_line_a_decision_names_no_person(
    log: MemoryDecisionLog, counts: Counts, captured: list[structlog.typing.EventDict]
) -> None:
    journal(log, counts, verbose=True).answered([decided()])
    (line,) = captured
    assert (line["event"], line["request_id"], line["log_level"]) == ("decided", "r1", "debug")
    assert line["card_id"] == Pseudonyms("key").of("c-secret")
    assert "c-secret" not in str(line)


def test_refusals_are_counted_by_status(log: MemoryDecisionLog, counts: Counts) -> None:
    before = sample("flywheel_serving_refused_total", status="INVALID_ARGUMENT")
    journal(log, counts).refused("INVALID_ARGUMENT", "r1", InvalidSubject("card_id", "missing", "send it"))
    assert sample("flywheel_serving_refused_total", status="INVALID_ARGUMENT") - before == 1


def test_what_came_too_late_is_told_by_the_next_record(log: MemoryDecisionLog, counts: Counts) -> None:
    desk = journal(log, counts)
    for _ in range(2):
        desk.unanswered(decided(), 60.0)
    desk.unanswered(decided(model_version="rule"), None)
    desk.answered([decided(decision_id="d1"), decided(decision_id="d2")])
    desk.answered([decided(decision_id="d3")])
    records = [Numbered.model_validate_json(value) for _, value in log.records]
    assert [len(record.unanswered) for record in records] == [2, 0, 0]
    first, second = records[0].unanswered
    assert (first.arm, first.model_version, first.model_ms, first.requests) == ("champion", "v1", 60.0, 2)
    assert (second.model_version, second.model_ms, second.requests) == ("rule", None, 1)
    assert first.decided_at == records[0].decided_at
    assert DecisionLogged.model_validate_json(log.records[0][1]).decision_id == "d1"


def test_without_answers_for_long_no_late_request_is_lost_and_the_newest_moments_are_told(
    log: MemoryDecisionLog, counts: Counts
) -> None:
    desk = journal(log, counts)
    for number in range(200):
        desk.unanswered(decided(decided_at_us=number), None)
    desk.answered([decided()])
    told = Numbered.model_validate_json(log.records[0][1]).unanswered
    assert [to_us(each.decided_at) for each in told] == list(range(136, 200))
    assert sum(each.requests for each in told) == 200


def test_the_late_requests_of_a_large_arm_leave_room_for_those_of_a_small_one(
    log: MemoryDecisionLog, counts: Counts
) -> None:
    desk = journal(log, counts)
    for number in range(10):
        late = decided(model_version="v2", decided_at_us=number)
        late.case.arm = Role.CANARY
        desk.unanswered(late, 60.0)
    for number in range(200):
        desk.unanswered(decided(decided_at_us=10 + number), None)
    desk.answered([decided()])
    told = Numbered.model_validate_json(log.records[0][1]).unanswered
    canarys = [each for each in told if each.arm == "canary"]
    assert [(to_us(each.decided_at), each.requests, each.model_ms) for each in canarys] == [
        (number, 1, 60.0) for number in range(10)
    ]
