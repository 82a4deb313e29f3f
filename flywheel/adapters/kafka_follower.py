"""Follows topics from given positions on, in no group: what the broker acknowledges is here milliseconds later."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from flywheel.kernel.ports import Record, Unavailable

_FATAL = frozenset({KafkaError._FATAL, KafkaError.TOPIC_AUTHORIZATION_FAILED})


class KafkaFollower:
    """Reads all partitions of some topics. While the broker is away `poll` is empty."""

    def __init__(self, bootstrap: str, topics: Sequence[str], *, timeout_s: float = 5.0) -> None:
        self._topics = tuple(topics)
        self._timeout_s = timeout_s
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"follower-{uuid.uuid4().hex}",
                "enable.auto.commit": False,
                # Positions older than the log has are those of records that it has given up.
                "auto.offset.reset": "earliest",
                # An answer is due as soon as there is a record; waiting for more would only make it older.
                "fetch.min.bytes": 1,
                "fetch.wait.max.ms": 100,
                "queued.max.messages.kbytes": 32_768,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )

    def start(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Reads on from these offsets, and from the beginning of partitions without one. Raises Unavailable."""
        try:
            known = self._consumer.list_topics(timeout=self._timeout_s).topics
        except KafkaException as error:
            raise Unavailable(f"the broker does not answer: {error}") from error
        absent = [topic for topic in self._topics if topic not in known or known[topic].error]
        if absent:
            raise Unavailable(f"there is no topic {absent[0]}")
        self._consumer.assign(
            [
                TopicPartition(topic, number, positions.get((topic, number), OFFSET_BEGINNING))
                for topic in self._topics
                for number in known[topic].partitions
            ]
        )

    def poll(self, timeout_s: float, limit: int) -> list[Record]:
        """Up to `limit` records, as soon as there is one; empty when none came within `timeout_s`."""
        found = self._consumer.consume(1, timeout_s)
        if found and limit > 1:
            found += self._consumer.consume(limit - 1, 0)
        records = []
        for message in found:
            error = message.error()
            if error is None:
                records.append(
                    Record(
                        message.topic(), message.partition(), message.offset(), message.key(), message.value() or b""
                    )
                )
            elif error.code() in _FATAL:
                raise Unavailable(error.str())
        return records

    def close(self) -> None:
        """Closes the connection."""
        self._consumer.close()
