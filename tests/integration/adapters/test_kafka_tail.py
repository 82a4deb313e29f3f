"""The end of a topic, read from a real broker."""

from __future__ import annotations

import uuid

import pytest

from flywheel.adapters.kafka_tail import newest_records
from flywheel.adapters.kafka_topics import create_topics, publish
from flywheel.contracts.topics import Topic
from flywheel.kernel.ports import Unavailable

pytestmark = pytest.mark.engine


def test_the_newest_records_of_every_partition(kafka: str) -> None:
    topic = Topic(f"tail-{uuid.uuid4().hex}", "text", (), (), partitions=2)
    create_topics(kafka, [topic])
    assert newest_records(kafka, topic.name, per_partition=2, timeout_s=10) == []
    for number in range(8):
        publish(kafka, topic.name, str(number).encode(), str(number).encode())
    everything = newest_records(kafka, topic.name, per_partition=100, timeout_s=10)
    assert sorted(record.value for record in everything) == [str(number).encode() for number in range(8)]
    newest = newest_records(kafka, topic.name, per_partition=1, timeout_s=10)
    last = {record.partition: max(r.offset for r in everything if r.partition == record.partition) for record in newest}
    assert len(newest) == len(last) == 2
    assert all(record.offset == last[record.partition] for record in newest)


def test_no_broker_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        newest_records("127.0.0.1:1", "nowhere", per_partition=1, timeout_s=0.5)
