"""Makes the declared topics on the broker, and publishes single messages from synchronous code."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import Producer
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

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
    timeout_ms = int(timeout_s * 1000)
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap,
            request_timeout_ms=timeout_ms,
            bootstrap_timeout_ms=timeout_ms,
        )
    except KafkaError as error:
        raise Unavailable(f"topics not made: {error}") from error
    try:
        existing = set(admin.list_topics())
        wanted = [_declared(topic, replication) for topic in topics if topic.name not in existing]
        return tuple(topic.name for topic in wanted if _make(admin, topic, timeout_ms))
    except KafkaError as error:
        raise Unavailable(f"topics not made: {error}") from error
    finally:
        admin.close()


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
    return NewTopic(topic.name, topic.partitions, replication, topic_configs={"retention.ms": str(retention_ms)})


def _make(admin: KafkaAdminClient, topic: NewTopic, timeout_ms: int) -> bool:
    try:
        admin.create_topics([topic], timeout_ms=timeout_ms)
    except TopicAlreadyExistsError:
        # Somebody else made it in between.
        return False
    return True
