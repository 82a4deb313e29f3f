"""Positions that several readers of the same topics tell each other: kept by the broker as a group's offsets.

Nobody is a member of the group, so the broker gives out no partitions; monitoring of consumer groups shows the lag.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from flywheel.kernel.ports import Unavailable

Place = tuple[str, int]


class Noted(NamedTuple):
    """The next offset of a partition, and what the reader noted beside it: some words."""

    offset: int
    note: str


class KafkaPositions:
    """The positions of one group."""

    def __init__(self, bootstrap: str, group: str, *, timeout_s: float = 2.0) -> None:
        self._timeout_s = timeout_s
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )

    def write(self, positions: Mapping[Place, Noted]) -> None:
        """Hands the positions to the broker and returns at once; what does not reach it is read as it was before."""
        told = [TopicPartition(*place, noted.offset, noted.note) for place, noted in positions.items()]
        try:
            self._consumer.commit(offsets=told, asynchronous=True)
        except KafkaException as error:
            raise Unavailable(f"positions not told: {error}") from error

    def read(self, places: Iterable[Place]) -> dict[Place, Noted]:
        """The positions that were written last, of the places that have one. Raises Unavailable."""
        asked = [TopicPartition(*place) for place in places]
        if not asked:
            return {}
        try:
            found = self._consumer.committed(asked, timeout=self._timeout_s)
        except KafkaException as error:
            raise Unavailable(f"positions not known: {error}") from error
        return {(p.topic, p.partition): Noted(p.offset, p.metadata or "") for p in found if p.offset >= 0}

    def close(self) -> None:
        """Closes the connection."""
        self._consumer.close()
