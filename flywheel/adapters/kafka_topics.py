"""Makes the declared topics on the broker, and publishes single messages from synchronous code."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

from flywheel.adapters.kafka_log import producer_config
from flywheel.contracts.topics import Topic
from flywheel.kernel.ports import Unavailable

_HOUR_MS = 3_600_000
_LOOK_AGAIN_S = 0.05


def create_topics(
    bootstrap: str, topics: Iterable[Topic], *, replication: int = 1, timeout_s: float = 15.0
) -> tuple[str, ...]:
    """Names of the topics that were made now, and can be used; those that exist are left as they are.

    Raises Unavailable when the broker does not answer, or has no leaders for them, within `timeout_s`.
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
        new = tuple(name for name, future in made.items() if _is_new(future.result))
        _await_leaders(admin, wanted, deadline)
    except KafkaException as error:
        raise Unavailable(f"topics not made: {error}") from error
    return new


def _await_leaders(admin: AdminClient, topics: Sequence[NewTopic], deadline: float) -> None:
    """A topic exists a moment before its partitions have leaders; who asks about one then is turned away."""
    ends = {
        TopicPartition(topic.topic, n): OffsetSpec.latest() for topic in topics for n in range(topic.num_partitions)
    }
    while True:
        left_s = max(deadline - time.monotonic(), 0.1)
        failures = [future.exception(left_s) for future in admin.list_offsets(ends, request_timeout=left_s).values()]
        if not any(failures):
            return
        if time.monotonic() > deadline:
            raise next(filter(None, failures))
        time.sleep(_LOOK_AGAIN_S)


def add_partitions(bootstrap: str, topics: Sequence[Topic], *, timeout_s: float = 15.0) -> tuple[str, ...]:
    """Names of the existing topics that had fewer partitions than declared, and now have as many, each with a leader;
    one that has more stays as it is.

    Keys go to other partitions from then on, so events of one entity are read in order within a partition only, as they
    always are. Raises Unavailable like `create_topics`.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    deadline = time.monotonic() + timeout_s
    try:
        existing = admin.list_topics(timeout=timeout_s).topics
        has = {topic.name: len(existing[topic.name].partitions) for topic in topics if topic.name in existing}
        wanted = [topic for topic in topics if has.get(topic.name, topic.partitions) < topic.partitions]
        if not wanted:
            return ()
        wider = [NewPartitions(topic.name, topic.partitions) for topic in wanted]
        for future in admin.create_partitions(wider, operation_timeout=timeout_s).values():
            future.result(timeout_s)
        # The client that asked before they were added goes on believing that they are not there.
        anew = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        _await_leaders(anew, [_declared(topic, 1) for topic in wanted], deadline)
    except (KafkaException, TimeoutError) as error:
        raise Unavailable(f"partitions not added: {error}") from error
    return tuple(topic.name for topic in wanted)


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
    return NewTopic(topic.name, topic.partitions, replication, config=topic_config(topic))


def topic_config(topic: Topic) -> dict[str, str]:
    """What the broker is told of a topic's life.

    Only closed segments are deleted, so one is closed every day at the latest where a retention is declared.
    """
    retention_ms = -1 if topic.retention_hours is None else topic.retention_hours * _HOUR_MS
    config = {"retention.ms": str(retention_ms), "cleanup.policy": "compact" if topic.compacted else "delete"}
    if topic.retention_hours is not None:
        config["segment.ms"] = str(min(retention_ms, 24 * _HOUR_MS))
    return config


def keep_as_declared(bootstrap: str, topics: Iterable[Topic], *, timeout_s: float = 15.0) -> tuple[str, ...]:
    """Names of the existing topics that kept their records longer or shorter than declared, and no more do.

    Raises Unavailable when the broker does not answer within `timeout_s`.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    declared = {topic.name: topic_config(topic) for topic in topics}
    try:
        changed = []
        for name, config in configs_of(admin, declared, timeout_s).items():
            differing = {key: value for key, value in declared[name].items() if config.get(key) != value}
            if differing:
                changed.append(_alteration(name, differing))
        if changed:
            for future in admin.incremental_alter_configs(changed, request_timeout=timeout_s).values():
                future.result(timeout_s)
    except (KafkaException, TimeoutError) as error:
        raise Unavailable(f"topics not configured: {error}") from error
    return tuple(resource.name for resource in changed)


def configs_of(admin: AdminClient, names: Iterable[str], timeout_s: float) -> dict[str, dict[str, str]]:
    """The broker's configuration of topics that exist. Raises KafkaException or TimeoutError."""
    existing = admin.list_topics(timeout=timeout_s).topics
    asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names if name in existing]
    if not asked:
        return {}
    found = admin.describe_configs(asked, request_timeout=timeout_s)
    return {
        resource.name: {entry.name: str(entry.value) for entry in future.result(timeout_s).values()}
        for resource, future in found.items()
    }


def _alteration(name: str, config: Mapping[str, str]) -> ConfigResource:
    entries = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in config.items()]
    return ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=entries)


def _is_new(result: Callable[[], object]) -> bool:
    try:
        result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        raise
    return True
