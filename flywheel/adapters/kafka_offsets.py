"""Asks Kafka where its topics begin and end, without reading them."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from flywheel.adapters.kafka_partitions import KafkaPartitions
from flywheel.kernel.ports import Unavailable


class KafkaOffsets:
    """First and end offsets of some topics, one short question for each topic and each partition.

    Partitions that were added count from the next question on: what is acknowledged in them is not overlooked.
    """

    def __init__(self, bootstrap: str, topics: Sequence[str], *, timeout_s: float = 2.0) -> None:
        self._timeout_s = timeout_s
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "offsets", "enable.auto.commit": False, "log_level": 0}
        )
        self._partitions = KafkaPartitions(self._consumer, topics)

    def ends(self) -> dict[tuple[str, int], int]:
        """Next offset by topic and partition. Raises Unavailable when the broker does not answer."""
        return {place: end for place, (_, end) in self._bounds().items()}

    def firsts(self) -> dict[tuple[str, int], int]:
        """Offset of the oldest record kept, by topic and partition. Raises Unavailable like `ends`."""
        return {place: first for place, (first, _) in self._bounds().items()}

    def close(self) -> None:
        """Closes the connection."""
        self._consumer.close()

    def _bounds(self) -> dict[tuple[str, int], tuple[int, int]]:
        try:
            partitions = self._partitions.ask(self._timeout_s)
            return {(p.topic, p.partition): self._bounds_of(p) for p in partitions}
        except KafkaException as error:
            raise Unavailable(f"offsets not known: {error}") from error

    def _bounds_of(self, partition: TopicPartition) -> tuple[int, int]:
        first, end = self._consumer.get_watermark_offsets(partition, timeout=self._timeout_s)
        return int(first), int(end)
