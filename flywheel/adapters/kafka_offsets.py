"""Asks Kafka where its topics end, without reading them."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from flywheel.kernel.ports import Unavailable


class KafkaOffsets:
    """End offsets of some topics, one short question for each partition."""

    def __init__(self, bootstrap: str, topics: Sequence[str], *, timeout_s: float = 2.0) -> None:
        self._topics = tuple(topics)
        self._timeout_s = timeout_s
        self._partitions: list[TopicPartition] = []
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "offsets", "enable.auto.commit": False, "log_level": 0}
        )

    def ends(self) -> dict[tuple[str, int], int]:
        """Next offset by topic and partition. Raises Unavailable when the broker does not answer."""
        try:
            partitions = self._known_partitions()
            return {(p.topic, p.partition): self._end(p) for p in partitions}
        except KafkaException as error:
            raise Unavailable(f"end offsets not known: {error}") from error

    def close(self) -> None:
        """Closes the connection."""
        self._consumer.close()

    def _end(self, partition: TopicPartition) -> int:
        return int(self._consumer.get_watermark_offsets(partition, timeout=self._timeout_s)[1])

    def _known_partitions(self) -> list[TopicPartition]:
        if not self._partitions:
            known = self._consumer.list_topics(timeout=self._timeout_s).topics
            absent = [topic for topic in self._topics if topic not in known or known[topic].error]
            if absent:
                raise Unavailable(f"there is no topic {absent[0]}")
            self._partitions = [TopicPartition(t, number) for t in self._topics for number in known[t].partitions]
        return self._partitions
