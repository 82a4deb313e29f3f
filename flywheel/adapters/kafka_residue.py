"""What still lies in the broker's log: a single record cannot be deleted there, only all that is old enough."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import AdminClient

from flywheel.adapters.kafka_records import read_to_end
from flywheel.adapters.kafka_topics import configs_of
from flywheel.kernel.ports import Unavailable

_MS_US = 1_000


@dataclass(frozen=True)
class Residue:
    """Records of one topic that were looked for and found; `gone_by_us` is None where the topic is kept for ever."""

    topic: str
    records: int
    examined: int
    gone_by_us: int | None


def find_residue(
    bootstrap: str, topics: Sequence[str], wanted: Callable[[bytes, bytes, int], bool], *, timeout_s: float = 30.0
) -> list[Residue]:
    """What of each existing topic is `wanted`, given key, value and time of arrival in microseconds.

    Reads the topics from their beginning to where they end now. Raises Unavailable when the broker gives nothing for
    `timeout_s`.
    """
    client = {"bootstrap.servers": bootstrap, "log_level": 0}
    consumer = Consumer({**client, "group.id": f"residue-{uuid.uuid4().hex}", "enable.auto.commit": False})
    try:
        configs = configs_of(AdminClient(client), topics, timeout_s)
        return [_residue(consumer, topic, configs[topic], wanted, timeout_s) for topic in topics if topic in configs]
    except (KafkaException, TimeoutError) as error:
        raise Unavailable(f"the broker's log cannot be read: {error}") from error
    finally:
        consumer.close()


def _residue(
    consumer: Consumer,
    topic: str,
    config: Mapping[str, str],
    wanted: Callable[[bytes, bytes, int], bool],
    timeout_s: float,
) -> Residue:
    records = examined = newest_us = 0
    for message in read_to_end(consumer, topic, timeout_s):
        examined += 1
        arrived_us = message.timestamp()[1] * _MS_US
        if wanted(message.key() or b"", message.value() or b"", arrived_us):
            records += 1
            newest_us = max(newest_us, arrived_us)
    return Residue(topic, records, examined, _gone_by_us(config, newest_us) if records else None)


def _gone_by_us(config: Mapping[str, str], newest_us: int) -> int | None:
    """A segment goes as a whole, once its last record is old enough."""
    retention_ms = int(config["retention.ms"])
    return None if retention_ms < 0 else newest_us + (retention_ms + int(config["segment.ms"])) * _MS_US
