"""Reads Kafka topics in a consumer group whose positions are committed by hand."""

from __future__ import annotations

import time
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from flywheel.adapters.kafka_records import consume, record_of
from flywheel.adapters.logs import logger
from flywheel.kernel.ports import Record, Unavailable

_PASSING = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
"""Errors after which the client goes on by itself."""

_COORDINATOR_MOVES = frozenset(
    {KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS}
)

_log = logger(__name__)


class KafkaReader:
    """A member of the consumer group `group`; a new group starts at the beginning of the topics.

    While the broker is away `poll` is empty; `commit` and `lag` raise Unavailable. A member that does not poll for
    `processing_limit_s` loses its partitions to the others and reads again from what it committed.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Sequence[str],
        group: str,
        *,
        processing_limit_s: float = 300.0,
        timeout_s: float = 5.0,
    ) -> None:
        self._topics = tuple(topics)
        self._timeout_s = timeout_s
        self._positions: dict[tuple[str, int], int] = {}
        self._uncommitted: set[tuple[str, int]] = set()
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                # The broker's lower bound: a member that was killed is replaced within seconds.
                "session.timeout.ms": 6_000,
                "heartbeat.interval.ms": 1_500,
                "max.poll.interval.ms": int(processing_limit_s * 1000),
                "topic.metadata.refresh.interval.ms": 5_000,
                "fetch.wait.max.ms": 100,
                "queued.max.messages.kbytes": 65_536,
                "reconnect.backoff.max.ms": 1_000,
                "log_level": 0,
            }
        )
        self._consumer.subscribe(list(self._topics), on_revoke=self._forget, on_lost=self._forget)

    def poll(self, timeout_s: float, limit: int) -> list[Record]:
        """Up to `limit` records, as soon as there is one; empty when none came within `timeout_s`."""
        found = consume(self._consumer, timeout_s, limit)
        return [self._take(message) for message in found if _is_record(message)]

    def commit(self) -> None:
        """Everything polled so far is done with. Raises Unavailable when the broker did not confirm it."""
        if not self._uncommitted:
            return
        offsets = [TopicPartition(*partition, self._positions[partition]) for partition in self._uncommitted]
        try:
            committed = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            raise Unavailable(f"positions not committed: {error}") from error
        failed = [partition.error for partition in committed or () if partition.error]
        if failed:
            raise Unavailable(f"positions not committed: {failed[0]}")
        self._uncommitted.clear()

    def lag(self) -> int:
        """Records in this member's partitions (in all of them before it has any) that it has not polled yet."""
        try:
            partitions = self._consumer.assignment() or self._all_partitions()
            starts = self._starts([p for p in partitions if (p.topic, p.partition) not in self._positions])
            return sum(self._behind(p, starts) for p in partitions)
        except KafkaException as error:
            raise Unavailable(f"lag not known: {error}") from error

    def close(self) -> None:
        """Leaves the group without committing."""
        self._consumer.close()

    def _take(self, message: Message) -> Record:
        partition = (message.topic(), message.partition())
        self._positions[partition] = message.offset() + 1
        self._uncommitted.add(partition)
        return record_of(message)

    def _forget(self, _: Consumer, partitions: Sequence[TopicPartition]) -> None:
        for partition in partitions:
            self._positions.pop((partition.topic, partition.partition), None)
            self._uncommitted.discard((partition.topic, partition.partition))

    def _all_partitions(self) -> list[TopicPartition]:
        known = self._consumer.list_topics(timeout=self._timeout_s).topics
        return [TopicPartition(t, number) for t in self._topics if t in known for number in known[t].partitions]

    def _starts(self, partitions: list[TopicPartition]) -> dict[tuple[str, int], int]:
        found = self._committed(partitions) if partitions else []
        return {(p.topic, p.partition): p.offset for p in found}

    def _committed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                return list(self._consumer.committed(partitions, timeout=self._timeout_s))
            except KafkaException as error:
                # A broker that has just started names a coordinator before that one is ready to answer.
                if error.args[0].code() not in _COORDINATOR_MOVES or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _behind(self, partition: TopicPartition, starts: dict[tuple[str, int], int]) -> int:
        low, high = self._consumer.get_watermark_offsets(partition, timeout=self._timeout_s)
        name = (partition.topic, partition.partition)
        position = self._positions.get(name, starts.get(name, low))
        return int(high - max(position, low))


def _is_record(message: Message) -> bool:
    error = message.error()
    if error is None:
        return True
    if error.code() not in _PASSING:
        raise Unavailable(error.str())
    _log.warning("kafka_read_interrupted", reason=error.str())
    return False
