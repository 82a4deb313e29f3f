"""Follows topics from given positions on, in no group: what the broker acknowledges is here milliseconds later."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from flywheel.adapters.kafka_partitions import KafkaPartitions
from flywheel.adapters.kafka_records import consume, record_of
from flywheel.adapters.logs import logger
from flywheel.kernel.ports import Record, Unavailable

_FATAL = frozenset({KafkaError._FATAL, KafkaError.TOPIC_AUTHORIZATION_FAILED})

_LOOK_EVERY_S = 1.0
"""For partitions that were added."""
_LOOK_WITHIN_S = 0.05
"""No more, because nothing is read meanwhile; twice as long after each time that it was not enough …"""
_LOOK_WITHIN_MOST_S = 0.4
"""… up to this: a broker that is slow for long must not hide for ever what was added."""
_LOOK_AGAIN_AFTER_S = 5.0

_log = logger(__name__)


class KafkaFollower:
    """Reads all partitions of some topics, or those whose numbers are wanted, from their beginning those that are added
    meanwhile.

    While the broker is away `poll` is empty.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Sequence[str],
        *,
        wanted: Callable[[int], bool] = lambda _: True,
        timeout_s: float = 5.0,
    ) -> None:
        self._timeout_s = timeout_s
        self._wanted = wanted
        self._followed: set[tuple[str, int]] = set()
        self._look_again_s = math.inf
        self._look_within_s = _LOOK_WITHIN_S
        self._sees_added = True
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
        self._partitions = KafkaPartitions(self._consumer, topics)

    def start(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Reads on from these offsets, and from the beginning of partitions without one. Raises Unavailable."""
        try:
            found = self._ask(self._timeout_s)
        except KafkaException as error:
            raise Unavailable(f"the broker does not answer: {error}") from error
        for one in found:
            one.offset = positions.get((one.topic, one.partition), OFFSET_BEGINNING)
        self._consumer.assign(found)
        self._followed = {(one.topic, one.partition) for one in found}
        self._look_again_s = time.monotonic() + _LOOK_EVERY_S

    def poll(self, timeout_s: float, limit: int) -> list[Record]:
        """Up to `limit` records, as soon as there is one; empty when none came within `timeout_s`."""
        if time.monotonic() >= self._look_again_s:
            self._follow_added()
        records = []
        for message in consume(self._consumer, timeout_s, limit):
            error = message.error()
            if error is None:
                records.append(record_of(message))
            elif error.code() in _FATAL:
                raise Unavailable(error.str())
        return records

    def close(self) -> None:
        """Closes the connection."""
        self._consumer.close()

    def _ask(self, timeout_s: float) -> list[TopicPartition]:
        return [one for one in self._partitions.ask(timeout_s) if self._wanted(one.partition)]

    def _follow_added(self) -> None:
        try:
            found = self._ask(self._look_within_s)
        except (KafkaException, Unavailable) as error:
            # The broker is away, about to be, or busy: what can be read is read, and this is asked again.
            if self._sees_added:
                _log.warning("kafka_partitions_unknown", reason=str(error))
            self._sees_added = False
            self._look_again_s = time.monotonic() + _LOOK_AGAIN_AFTER_S
            self._look_within_s = min(2 * self._look_within_s, _LOOK_WITHIN_MOST_S)
            return
        added = [one for one in found if (one.topic, one.partition) not in self._followed]
        if added:
            for one in added:
                one.offset = OFFSET_BEGINNING
            self._consumer.incremental_assign(added)
            self._followed |= {(one.topic, one.partition) for one in added}
        self._sees_added = True
        self._look_within_s = _LOOK_WITHIN_S
        self._look_again_s = time.monotonic() + _LOOK_EVERY_S
