"""Makes the declared topics on the broker, and publishes single messages from synchronous code."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from flywheel.adapters.kafka_log import producer_config
from flywheel.contracts.topics import Topic
from flywheel.kernel.ports import Unavailable

_HOUR_MS = 3_600_000


def create_topics(
    bootstrap: str, topics: Iterable[Topic], *, replication: int = 1, timeout_s: float = 15.0
) -> tuple[str, ...]:
    """Names of the topics that were made now; those that exist are left as they are.

    Raises Unavailable when the broker does not answer within `timeout_s`.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    deadline = time.monotonic() + timeout_s
    try:
        existing = admin.list_topics(timeout=timeout_s).topics
        wanted = [_declared(topic, replication) for topic in topics if topic.name not in existing]
        if not wanted:
            return ()
        left_s = max(deadline - time.monotonic(), 1.0)
        made = admin.create_topics(wanted, operation_timeout=left_s, request_timeout=left_s)
        return tuple(name for name, future in made.items() if _is_new(future.result))
    except KafkaException as error:
        raise Unavailable(f"topics not made: {error}") from error


def publish(bootstrap: str, topic: str, key: bytes, value: bytes, *, timeout_s: float = 10.0) -> None:
    """Returns once the broker has the message durably; raises Unavailable when it does not say so in time."""
    failures: list[str] = []
    producer = Producer(producer_config(bootstrap, timeout_s, linger_ms=0))
    producer.produce(topic, value, key, on_delivery=lambda error, _: failures.append(error.str()) if error else None)
    # A new producer refuses nothing at once: what is wrong comes with the report.
    waiting = producer.flush(timeout_s + 1.0)
    if waiting or failures:
        raise Unavailable(f"{topic}: {failures[0] if failures else 'no acknowledgement in time'}")


def _declared(topic: Topic, replication: int) -> NewTopic:
    retention_ms = -1 if topic.retention_hours is None else topic.retention_hours * _HOUR_MS
    return NewTopic(topic.name, topic.partitions, replication, config={"retention.ms": str(retention_ms)})


def _is_new(result: Callable[[], object]) -> bool:
    try:
        result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        raise
    return True
