"""The erasures of one use case in their compacted topic."""

from __future__ import annotations

import threading
import time
import uuid

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from pydantic import ValidationError

from flywheel.adapters.kafka_partitions import KafkaPartitions
from flywheel.adapters.kafka_topics import publish
from flywheel.adapters.logs import logger
from flywheel.contracts.erasure import Erased
from flywheel.contracts.topics import erasures_topic
from flywheel.kernel.erasure import EraseKey, Erasures
from flywheel.kernel.ports import Unavailable

_READ_AT_ONCE = 10_000

_log = logger(__name__)


class KafkaErasures:
    """Reads the topic once and then only what is new, without a group: every process needs all of it.

    May be asked from several threads. Asking costs two short questions to the broker while there is nothing new.
    """

    def __init__(self, bootstrap: str, key: EraseKey, *, timeout_s: float = 10.0) -> None:
        self._bootstrap = bootstrap
        self._topic = erasures_topic(key.usecase).name
        self._timeout_s = timeout_s
        self._erasures = Erasures(key)
        self._next: dict[int, int] = {}
        self._asked = threading.Lock()
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"erasures-{uuid.uuid4().hex}",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 100,
                "log_level": 0,
            }
        )
        self._partitions = KafkaPartitions(self._consumer, [self._topic])

    def publish(self, erased: Erased) -> None:
        """Returns once all in-sync replicas have it. Raises Unavailable."""
        publish(self._bootstrap, self._topic, erased.key, erased.to_bytes(), timeout_s=self._timeout_s)

    def current(self) -> Erasures:
        """All erasures that the broker held when asked. Raises Unavailable and OtherKey."""
        with self._asked:
            try:
                behind = self._behind()
                if behind:
                    self._read(behind)
            except KafkaException as error:
                raise Unavailable(f"erasures not known: {error}") from error
            return self._erasures

    def close(self) -> None:
        """Closes the connection."""
        self._consumer.close()

    def _behind(self) -> dict[int, int]:
        """End offset of each partition that holds more than was read."""
        ends = {}
        for one in self._partitions.ask(self._timeout_s):
            low, high = self._consumer.get_watermark_offsets(one, timeout=self._timeout_s)
            if high > max(low, self._next.get(one.partition, 0)):
                ends[one.partition] = high
        return ends

    def _read(self, ends: dict[int, int]) -> None:
        self._consumer.assign([TopicPartition(self._topic, number, self._next.get(number, 0)) for number in ends])
        found: list[Erased] = []
        deadline_s = time.monotonic() + self._timeout_s
        reached = {number: self._next.get(number, 0) for number in ends}
        while any(reached[number] < end for number, end in ends.items()):
            if time.monotonic() > deadline_s:
                raise Unavailable(f"{self._topic} is not given to its end within {self._timeout_s} s")
            for message in self._consumer.consume(_READ_AT_ONCE, 0.2):
                if message.error() is None:
                    reached[message.partition()] = message.offset() + 1
                    found += _erased(message)
        # Only what was taken in counts as read: under another key the next call must fail again.
        self._erasures = self._erasures.including(found)
        self._next |= reached


def _erased(message: Message) -> list[Erased]:
    try:
        return [Erased.model_validate_json(message.value() or b"")]
    except ValidationError as error:
        _log.error("no_erasure", topic=message.topic(), offset=message.offset(), errors=error.error_count())
        return []
