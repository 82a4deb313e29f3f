"""Asking for a model: the request is published, and only its own result ends the wait."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flywheel.adapters.memory_log import MemoryBroker, MemoryEventLog, MemoryReader
from flywheel.client import training
from flywheel.client.training import await_result, request_training
from flywheel.contracts.topics import training_requests_topic, training_results_topic
from flywheel.contracts.training import TrainingFinished, TrainingRequested
from flywheel.kernel.ports import Unavailable

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RESULTS = training_results_topic("fraud").name


def finish(broker: MemoryBroker, request_id: str) -> None:
    result = TrainingFinished(request_id=request_id, finished_at=NOW, version="v1", deployed=True)
    broker.append(RESULTS, request_id.encode(), result.to_bytes())


async def test_a_request_says_why_and_until_when() -> None:
    broker = MemoryBroker()
    request = await request_training(MemoryEventLog(broker), "fraud", "drift", now=NOW)
    (record,) = broker.records(training_requests_topic("fraud").name)
    assert TrainingRequested.model_validate_json(record.value) == request
    assert (request.reason, request.requested_at) == ("drift", NOW)


async def test_a_broker_that_is_away_is_no_request() -> None:
    broker = MemoryBroker()
    broker.away = True
    with pytest.raises(Unavailable):
        await request_training(MemoryEventLog(broker), "fraud", "drift", now=NOW)


def test_results_of_other_requests_are_passed_over() -> None:
    broker = MemoryBroker()
    for request_id in ("other", "mine"):
        finish(broker, request_id)
    finished = await_result(MemoryReader(broker, [RESULTS], "g"), "mine", timeout_s=5)
    assert finished is not None
    assert finished.request_id == "mine"


def test_the_wait_ends() -> None:
    broker = MemoryBroker()
    finish(broker, "other")
    assert await_result(MemoryReader(broker, [RESULTS], "g"), "mine", timeout_s=0.05) is None


def test_a_long_wait_tells_how_long_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_TELL_EVERY_S", 0.0)
    told: list[str] = []
    await_result(MemoryReader(MemoryBroker(), [RESULTS], "g"), "mine", timeout_s=0.05, tell=told.append)
    assert told
    assert "make logs P=trainer" in told[0]
