"""Requests for history are answered in order, whatever else is in the topic and whenever the broker goes away."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

from flywheel.contracts.training import HistoryBuilt, TrainingFinished, TrainingRequested
from flywheel.kernel.ports import Record, Unavailable
from services.features.build import serve_requests

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Topic:
    """A topic of two records: the first is nonsense. After the last commit it stops the service."""

    def __init__(self, stopping: threading.Event) -> None:
        request = TrainingRequested(request_id="r1", requested_at=NOW, reason="test").to_bytes()
        self.values = [b"nonsense", request]
        self.committed = 0
        self._stopping = stopping

    def poll(self, timeout_s: float, limit: int) -> list[Record]:
        del timeout_s, limit
        return [Record("requests", 0, self.committed, None, self.values[self.committed])]

    def commit(self) -> None:
        self.committed += 1
        if self.committed == len(self.values):
            self._stopping.set()
            raise Unavailable("the broker goes away")

    def lag(self) -> int:
        return len(self.values) - self.committed

    def close(self) -> None: ...


class Builder:
    """Builds nothing, and says so."""

    def build(self, request: TrainingRequested) -> HistoryBuilt:
        return HistoryBuilt(
            request_id=request.request_id,
            snapshot_id="s",
            path="p",
            event_time_until=NOW,
            rows=1,
            reason=request.reason,
        )


def test_nonsense_is_passed_over_and_an_answer_waits_for_the_broker(monkeypatch: Any) -> None:
    monkeypatch.setattr("services.features.build._POLL_S", 0.001)
    stopping = threading.Event()
    topic, answers = Topic(stopping), []
    failures = [Unavailable("away"), Unavailable("away")]

    def publish(answer: HistoryBuilt | TrainingFinished) -> None:
        if failures:
            raise failures.pop()
        answers.append(answer.request_id)

    serve_requests(
        Builder(),  # type: ignore[arg-type]
        topic,
        archived_until_us=lambda: 2**62,
        publish=publish,
        stopping=stopping,
    )
    assert answers == ["r1"]
    assert topic.committed == 2
