"""Partitions that are added to a real broker's topics while they are read."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions
from structlog.testing import capture_logs

from flywheel.adapters.kafka_erasures import KafkaErasures
from flywheel.adapters.kafka_follower import KafkaFollower
from flywheel.adapters.kafka_offsets import KafkaOffsets
from flywheel.adapters.kafka_topics import create_topics
from flywheel.contracts.erasure import Erased
from flywheel.contracts.topics import Topic, erasures_topic
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.ports import Record, Unavailable
from infra.local.readiness import until

pytestmark = pytest.mark.engine

_WITHIN_S = 20.0


@pytest.fixture
def topic(kafka: str) -> str:
    made = Topic(f"growing-{uuid.uuid4().hex}", "text", (), (), partitions=1)
    create_topics(kafka, [made])
    send(kafka, made.name, 0, b"first")
    return made.name


def send(bootstrap: str, topic: str, partition: int, value: bytes) -> None:
    """Returns once it is acknowledged."""
    refused: list[object] = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    producer.produce(
        topic, value, b"key", partition, on_delivery=lambda error, _: refused.append(error) if error else None
    )
    assert (producer.flush(_WITHIN_S), refused) == (0, [])


def add_partition(bootstrap: str, topic: str) -> None:
    """Returns once the broker names the partition and its leader to whoever asks."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_partitions([NewPartitions(topic, 2)])[topic].result(_WITHIN_S)
    assert until(
        lambda: (
            [one.leader for one in admin.list_topics(topic, timeout=_WITHIN_S).topics[topic].partitions.values()]
            == [1, 1]
        ),
        _WITHIN_S,
        clock=time.monotonic,
        pause=lambda: time.sleep(0.02),
    )


def test_what_is_acknowledged_in_an_added_partition_is_among_the_ends_at_once(kafka: str, topic: str) -> None:
    offsets = KafkaOffsets(kafka, [topic], timeout_s=_WITHIN_S)
    assert offsets.ends() == {(topic, 0): 1}
    add_partition(kafka, topic)
    send(kafka, topic, 1, b"second")
    with capture_logs() as lines:
        assert offsets.ends() == {(topic, 0): 1, (topic, 1): 1}
        offsets.ends()
    assert [(line["event"], line["topic"], line["partitions"]) for line in lines] == [
        ("kafka_partitions_added", topic, [1])
    ]
    offsets.close()


def test_a_follower_reads_an_added_partition_from_its_beginning_and_the_others_on(kafka: str, topic: str) -> None:
    follower = KafkaFollower(kafka, [topic])
    follower.start({})
    assert [record.value for record in taken(follower, 1)] == [b"first"]
    add_partition(kafka, topic)
    send(kafka, topic, 1, b"second")
    send(kafka, topic, 0, b"third")
    found = taken(follower, 2)
    assert sorted((record.partition, record.offset, record.value) for record in found) == [
        (0, 1, b"third"),
        (1, 0, b"second"),
    ]
    follower.close()


def taken(follower: KafkaFollower, number: int) -> list[Record]:
    """So many records, and no more for a moment."""
    found: list[Record] = []
    deadline_s = time.monotonic() + _WITHIN_S
    while len(found) < number and time.monotonic() < deadline_s:
        found += follower.poll(0.1, 100)
    return found + follower.poll(0.5, 100)


def test_an_erasure_in_an_added_partition_is_known(kafka: str) -> None:
    key = EraseKey(b"secret", f"use-{uuid.uuid4().hex}")
    topic = erasures_topic(key.usecase)
    create_topics(kafka, [topic])
    erasures = KafkaErasures(kafka, key, timeout_s=_WITHIN_S)
    assert not erasures.current()
    add_partition(kafka, topic.name)
    erased = Erased(
        usecase=key.usecase,
        entity="card",
        pseudonym=key.pseudonym("card", "c1"),
        key_check=key.check,
        erased_at=datetime.now(UTC),
        erased_by="somebody",
    )
    send(kafka, topic.name, 1, erased.to_bytes())
    assert erasures.current().covers("card", "c1", 0)
    erasures.close()


def test_a_topic_that_is_not_there_is_unavailable(kafka: str) -> None:
    offsets = KafkaOffsets(kafka, ["nowhere"], timeout_s=_WITHIN_S)
    with pytest.raises(Unavailable, match="nowhere"):
        offsets.ends()
    offsets.close()
