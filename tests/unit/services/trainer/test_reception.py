"""Every history gets one answer, whatever becomes of the run, and is met again if it got none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from flywheel.adapters.memory_log import MemoryBroker, MemoryReader
from flywheel.contracts.topics import history_topic
from flywheel.contracts.training import HistoryBuilt, TrainingFinished
from flywheel.kernel.ports import Record, Unavailable
from services.trainer.isolation import Interrupted, WorkFailed
from services.trainer.outcome import Outcome
from services.trainer.reception import Reception

TOPIC = history_topic("fraud").name
AT = datetime(2018, 6, 1, tzinfo=UTC)


def history(request_id: str) -> bytes:
    message = HistoryBuilt(
        request_id=request_id, snapshot_id="s", path="p", event_time_until=AT, rows=1, reason="asked"
    )
    return message.to_bytes()


def finished(request_id: str, *, deployed: bool = True) -> TrainingFinished:
    return TrainingFinished(request_id=request_id, finished_at=AT, version="v", deployed=deployed)


class Desk:
    """A reception on an imagined broker; it stops once nothing is left to read."""

    def __init__(self, train: Callable[[HistoryBuilt], Outcome], *messages: bytes) -> None:
        self.broker = MemoryBroker(partitions=1)
        self.stop = threading.Event()
        self.announced: list[TrainingFinished] = []
        self.failures: list[Exception] = []
        self.train = train
        for message in messages:
            self.broker.append(TOPIC, b"fraud", message)

    def run(self) -> list[str]:
        """Request ids that were announced, in order."""
        self.stop.clear()
        reception = Reception("fraud", Reader(self.broker, self.stop), self.train, self.announce, self.stop)
        reception.run()
        return [message.request_id for message in self.announced]

    def announce(self, message: TrainingFinished) -> None:
        if self.failures:
            raise self.failures.pop()
        self.announced.append(message)


class Reader(MemoryReader):
    """Tells the reception to stop once there is nothing left to read."""

    def __init__(self, broker: MemoryBroker, stop: threading.Event) -> None:
        super().__init__(broker, [TOPIC], "fraud-trainer")
        self._told = stop

    def poll(self, timeout_s: float, limit: int) -> list[Record]:
        found = super().poll(min(timeout_s, 0), limit)
        if not found:
            self._told.set()
        return found


def test_each_history_is_trained_on_and_answered() -> None:
    desk = Desk(lambda message: Outcome(finished(message.request_id), 5), history("a"), history("b"))
    assert desk.run() == ["a", "b"]
    assert desk.run() == ["a", "b"], "what was answered is not met again"


def test_a_run_that_fails_is_announced_and_the_next_goes_on() -> None:
    def train(message: HistoryBuilt) -> Outcome:
        if message.request_id == "bad":
            raise WorkFailed("the process died with exit code -9")
        return Outcome(finished(message.request_id), 5)

    desk = Desk(train, history("bad"), history("good"))
    assert desk.run() == ["bad", "good"]
    assert desk.announced[0].error == "the process died with exit code -9"
    assert not desk.announced[0].deployed
    assert desk.announced[1].error is None


def test_a_message_that_is_none_is_stepped_over() -> None:
    desk = Desk(lambda message: Outcome(finished(message.request_id), 5), b"{", history("a"))
    assert desk.run() == ["a"]


def test_a_run_that_was_interrupted_is_made_again() -> None:
    def interrupted(_: HistoryBuilt) -> Outcome:
        desk.stop.set()
        raise Interrupted

    desk = Desk(interrupted, history("a"))
    assert desk.run() == []
    desk.train = lambda message: Outcome(finished(message.request_id), 5)
    assert desk.run() == ["a"]


def test_a_result_is_announced_again_until_the_broker_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.trainer.reception._RETRY_S", 0.001)
    trained = []

    def train(message: HistoryBuilt) -> Outcome:
        trained.append(message.request_id)
        return Outcome(finished(message.request_id), 5)

    desk = Desk(train, history("a"))
    desk.failures = [Unavailable("away"), Unavailable("away")]
    assert desk.run() == ["a"]
    assert trained == ["a"]


def test_it_is_ready_while_the_broker_answers() -> None:
    desk = Desk(lambda message: Outcome(finished(message.request_id), 5))
    reader = Reader(desk.broker, desk.stop)
    reception = Reception("fraud", reader, desk.train, desk.announce, desk.stop)
    assert not reception.ready()[0]
    reception.run()
    assert reception.ready()[0]
    desk.broker.away = True
    desk.stop.clear()
    lost = Reception("fraud", reader, desk.train, desk.announce, desk.stop)
    lost.run()
    assert not lost.ready()[0]
