"""The in-memory twin of the Kafka adapters: the same two ports, for tests without a broker."""

from __future__ import annotations

import time
import zlib
from collections import defaultdict
from collections.abc import Sequence

from flywheel.kernel.ports import Record, Unavailable


class MemoryBroker:
    """Topics and committed positions of one imagined broker. Set `away` and it answers nobody."""

    def __init__(self, partitions: int = 2) -> None:
        self._partitions = partitions
        self._records: dict[tuple[str, int], list[Record]] = {}
        self.committed: dict[str, dict[tuple[str, int], int]] = defaultdict(dict)
        self.away = False

    def append(self, topic: str, key: bytes, value: bytes, trace: str = "") -> None:
        """Appends to the partition that the key belongs to."""
        partition = zlib.crc32(key) % self._partitions
        records = self._records.setdefault((topic, partition), [])
        records.append(Record(topic, partition, len(records), key, value, trace))

    def partitions(self, topics: Sequence[str]) -> list[tuple[str, int]]:
        """The partitions of those topics that hold anything."""
        return sorted(name for name in self._records if name[0] in topics)

    def read(self, partition: tuple[str, int], position: int, limit: int) -> list[Record]:
        """Up to `limit` records of one partition from a position on."""
        return self._records[partition][position : position + limit]

    def end(self, partition: tuple[str, int]) -> int:
        """The position after the newest record."""
        return len(self._records[partition])

    def records(self, topic: str) -> list[Record]:
        """All records of a topic, partition by partition."""
        return [record for name in self.partitions([topic]) for record in self._records[name]]


class MemoryEventLog:
    """Appends to a MemoryBroker; while that is away every record is Unavailable."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self.closed = False

    async def append(
        self, topic: str, records: Sequence[tuple[bytes, bytes]], *, trace: str = ""
    ) -> list[Exception | None]:
        """One entry per record, in order: None, or Unavailable while the broker is away or after `close`."""
        if self._broker.away or self.closed:
            return [Unavailable("the broker does not acknowledge")] * len(records)
        for key, value in records:
            self._broker.append(topic, key, value, trace)
        return [None] * len(records)

    async def ready(self) -> bool:
        """Whether the broker answers."""
        return not self._broker.away

    async def close(self) -> None:
        """Refuses everything from now on."""
        self.closed = True


class MemoryReader:
    """The only member of a consumer group on a MemoryBroker."""

    def __init__(self, broker: MemoryBroker, topics: Sequence[str], group: str) -> None:
        self._broker = broker
        self._topics = tuple(topics)
        self._committed = broker.committed[group]
        self._positions = dict(self._committed)

    def poll(self, timeout_s: float, limit: int) -> list[Record]:
        """Up to `limit` records; empty when none came within `timeout_s`."""
        until = time.monotonic() + timeout_s
        found = self._read(limit)
        while not found and time.monotonic() < until:
            time.sleep(min(0.001, timeout_s))
            found = self._read(limit)
        return found

    def commit(self) -> None:
        """Everything polled so far is done with. Raises Unavailable while the broker is away."""
        if self._broker.away:
            raise Unavailable("positions not committed")
        self._committed.update(self._positions)

    def lag(self) -> int:
        """Records not polled yet. Raises Unavailable while the broker is away."""
        if self._broker.away:
            raise Unavailable("lag not known")
        names = self._broker.partitions(self._topics)
        return sum(self._broker.end(name) - self._positions.get(name, 0) for name in names)

    def close(self) -> None:
        """Lets go without committing."""

    def _read(self, limit: int) -> list[Record]:
        found: list[Record] = []
        if self._broker.away:
            return found
        for name in self._broker.partitions(self._topics):
            records = self._broker.read(name, self._positions.get(name, 0), limit - len(found))
            if records:
                self._positions[name] = records[-1].offset + 1
                found += records
        return found
