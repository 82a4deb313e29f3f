"""Reads the end of a topic without taking part in any group."""

from __future__ import annotations

import uuid

from confluent_kafka import Consumer, KafkaException, TopicPartition

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
        return _read(consumer, topic, per_partition, timeout_s)
    except KafkaException as error:
        raise Unavailable(f"{topic} cannot be read: {error}") from error
    finally:
        consumer.close()


def _read(consumer: Consumer, topic: str, per_partition: int, timeout_s: float) -> list[Record]:
    starts, missing = [], 0
    for partition in consumer.list_topics(topic, timeout=timeout_s).topics[topic].partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=timeout_s)
        start = max(low, high - per_partition)
        starts.append(TopicPartition(topic, partition, start))
        missing += high - start
    consumer.assign(starts)
    records: list[Record] = []
    while missing > 0:
        found = consumer.consume(missing, timeout_s)
        if not found:
            raise Unavailable(f"{topic}: the broker does not give its last {missing} records within {timeout_s} s")
        for message in found:
            if message.error() is None:
                missing -= 1
                records.append(
                    Record(topic, message.partition(), message.offset(), message.key(), message.value() or b"")
                )
    return records
