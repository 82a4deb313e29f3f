"""How long a follower asks a slow broker for partitions that were added."""

from __future__ import annotations

import pytest
from confluent_kafka import TopicPartition

from flywheel.adapters.kafka_follower import KafkaFollower
from flywheel.kernel.ports import Unavailable


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
    assert asked_s == [0.05, 0.1, 0.2, 0.4, 0.8, 0.8, 0.8, 0.05]
