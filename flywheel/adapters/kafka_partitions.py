"""Which partitions topics have by now: more may be added while somebody reads them."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import Consumer, TopicPartition

from flywheel.adapters.logs import logger
from flywheel.kernel.ports import Unavailable

_log = logger(__name__)


class KafkaPartitions:
    """The partitions of some topics, asked of the broker each time: one short question a topic."""

    def __init__(self, consumer: Consumer, topics: Sequence[str]) -> None:
        self._consumer = consumer
        self._topics = tuple(topics)
        self._known: dict[str, frozenset[int]] = {}

    def ask(self, timeout_s: float) -> list[TopicPartition]:
        """All of them; those added since the last time are told to the log.

        Raises KafkaException when the broker does not answer, Unavailable when there is no such topic.
        """
        found = {topic: self._numbers(topic, timeout_s) for topic in self._topics}
        for topic, numbers in found.items():
            added = numbers - self._known.get(topic, numbers)
            if added:
                _log.warning("kafka_partitions_added", topic=topic, partitions=sorted(added))
        self._known = found
        return [TopicPartition(topic, number) for topic, numbers in found.items() for number in sorted(numbers)]

    def _numbers(self, topic: str, timeout_s: float) -> frozenset[int]:
        known = self._consumer.list_topics(topic, timeout=timeout_s).topics
        if topic not in known or known[topic].error or not known[topic].partitions:
            raise Unavailable(f"there is no topic {topic}")
        return frozenset(known[topic].partitions)
