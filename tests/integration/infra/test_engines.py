"""The engines that tests and `make up` start are real: they keep and give back what they acknowledged."""

from __future__ import annotations

import pytest
import redis
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

pytestmark = pytest.mark.engine


def test_the_broker_gives_back_what_it_acknowledged(kafka: str) -> None:
    topic = "engines.round-trip"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)
    producer = Producer({"bootstrap.servers": kafka, "enable.idempotence": True, "compression.type": "gzip"})
    producer.produce(topic, key=b"k", value=b"v")
    assert producer.flush(10) == 0

    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "engines", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    record = consumer.poll(20)
    consumer.close()
    assert record is not None
    assert (record.key(), record.value()) == (b"k", b"v")


def test_the_broker_makes_no_topic_by_itself(kafka: str) -> None:
    assert "engines.unknown" not in AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=10).topics


def test_redis_writes_through_and_evicts_nothing(redis_server: str) -> None:
    client = redis.Redis.from_url(redis_server)
    told: dict[str, str] = client.config_get("*")  # type: ignore[assignment]
    client.close()
    assert (told["appendonly"], told["appendfsync"]) == ("yes", "always")
    assert told["maxmemory-policy"] == "noeviction"
