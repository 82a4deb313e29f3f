"""A follower whose broker answers no questions about partitions."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import TopicPartition
from structlog.testing import capture_logs

from flywheel.adapters import kafka_follower
from flywheel.adapters.kafka_follower import KafkaFollower
from flywheel.adapters.kafka_partitions import KafkaPartitions
from flywheel.kernel.ports import Unavailable


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_waiting_for_added_partitions_holds_up_nobody_and_is_told_once(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = KafkaFollower(silent, ["events"])
    with monkeypatch.context() as answered:
        answered.setattr(KafkaPartitions, "ask", lambda *_: [TopicPartition("events", 0)])
        follower.start({})
    monkeypatch.setattr(kafka_follower, "_LOOK_AGAIN_AFTER_S", 0.0)
    follower._look_again_s = 0.0
    with capture_logs() as lines:
        for _ in range(3):
            before_s = time.monotonic()
            assert follower.poll(0.0, 10) == []
            assert time.monotonic() - before_s < 0.5
    assert [line["event"] for line in lines] == ["kafka_partitions_unknown"]
    follower.close()


def test_after_a_question_without_an_answer_reading_goes_on_unasked(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = KafkaFollower(silent, ["events"])
    asked: list[float] = []

    def ask(partitions: KafkaPartitions, timeout_s: float) -> list[TopicPartition]:
        asked.append(timeout_s)
        return real(partitions, timeout_s) if len(asked) > 1 else [TopicPartition("events", 0)]

    real = KafkaPartitions.ask
    monkeypatch.setattr(KafkaPartitions, "ask", ask)
    follower.start({})
    follower._look_again_s = 0.0
    for _ in range(5):
        follower.poll(0.0, 10)
    assert len(asked) == 2
    follower.close()


def test_a_slow_broker_is_given_ever_more_time_up_to_a_bound_and_less_again_once_it_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    follower = KafkaFollower("127.0.0.1:1", ["topic"])
    asked_s: list[float] = []
    answers = False

    def ask(timeout_s: float) -> list[TopicPartition]:
        asked_s.append(timeout_s)
        if not answers:
            raise Unavailable("slow")
        return []

    monkeypatch.setattr(follower, "_ask", ask)

    def look() -> None:
        follower._look_again_s = 0.0
        assert follower.poll(0.0, 1) == []

    for _ in range(6):
        look()
    answers = True
    look()
    look()
    follower.close()
    assert asked_s == [0.05, 0.1, 0.2, 0.4, 0.4, 0.4, 0.4, 0.05]
