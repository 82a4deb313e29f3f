"""Topics on a real broker can be used when they have been made."""

from __future__ import annotations

import uuid
from contextlib import closing

import pytest
from confluent_kafka import Consumer, TopicPartition

from flywheel.adapters.kafka_topics import create_topics
from flywheel.contracts.topics import Topic

pytestmark = pytest.mark.engine

PARTITIONS = 24


def test_a_topic_that_was_made_has_leaders(kafka: str) -> None:
    with closing(Consumer({"bootstrap.servers": kafka, "group.id": uuid.uuid4().hex, "log_level": 0})) as consumer:
        for _ in range(5):
            topic = Topic(f"made-{uuid.uuid4().hex}", "nothing", (), (), partitions=PARTITIONS)
            assert create_topics(kafka, [topic]) == (topic.name,)
            for number in range(PARTITIONS):
                assert consumer.get_watermark_offsets(TopicPartition(topic.name, number), timeout=5.0) == (0, 0)
            assert create_topics(kafka, [topic]) == ()
