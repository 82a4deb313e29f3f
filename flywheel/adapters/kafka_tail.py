"""Reads the end of a topic without taking part in any group."""

from __future__ import annotations

import uuid

from confluent_kafka import Consumer, KafkaException

from flywheel.adapters.kafka_records import read_to_end, record_of
from flywheel.kernel.ports import Record, Unavailable


def newest_records(bootstrap: str, topic: str, *, per_partition: int, timeout_s: float) -> list[Record]:
    """Up to `per_partition` records from the end of each partition. Raises Unavailable."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"tail-{uuid.uuid4().hex}",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    try:
        return [record_of(message) for message in read_to_end(consumer, topic, timeout_s, last=per_partition)]
    except KafkaException as error:
        raise Unavailable(f"{topic} cannot be read: {error}") from error
    finally:
        consumer.close()
