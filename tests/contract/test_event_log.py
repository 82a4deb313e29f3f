"""What every event log and its readers must do, asked of the ones in memory and of Kafka."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from flywheel.adapters.kafka_log import KafkaEventLog
from flywheel.adapters.kafka_reader import KafkaReader
from flywheel.adapters.kafka_topics import create_topics, publish
from flywheel.adapters.memory_log import MemoryBroker, MemoryEventLog, MemoryReader
from flywheel.contracts.topics import Topic
from flywheel.kernel.ports import EventLog, Record, RecordReader, Unavailable

_ARRIVAL_S = 20.0


@dataclass
class Logs:
    """Makes logs and readers of one kind, on a topic of their own."""

    bootstrap: str | None
    topic: str = field(default_factory=lambda: f"test.{uuid.uuid4().hex}")
    memory: MemoryBroker = field(default_factory=MemoryBroker)
    _readers: list[RecordReader] = field(default_factory=list)

    def log(self) -> EventLog:
        return KafkaEventLog(self.bootstrap) if self.bootstrap else MemoryEventLog(self.memory)

    def reader(self, group: str) -> RecordReader:
        """A reader that is closed at the end of the test."""
        name = f"{self.topic}.{group}"
        made: RecordReader
        if self.bootstrap:
            made = KafkaReader(self.bootstrap, [self.topic], name)
        else:
            made = MemoryReader(self.memory, [self.topic], name)
        self._readers.append(made)
        return made

    def leave(self, reader: RecordReader) -> None:
        self._readers.remove(reader)
        reader.close()

    def close(self) -> None:
        for reader in self._readers:
            reader.close()


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.engine)])
def logs(request: pytest.FixtureRequest) -> Iterator[Logs]:
    made = Logs(request.getfixturevalue("kafka") if request.param == "kafka" else None)
    if made.bootstrap:
        create_topics(made.bootstrap, [_topic(made.topic)])
    yield made
    made.close()


def _topic(name: str) -> Topic:
    return Topic(name, carries="bytes", producers=(), consumers=(), partitions=2)


def _read(reader: RecordReader, count: int) -> list[Record]:
    """Polls until `count` records came, or for as long as they may take."""
    found: list[Record] = []
    until = time.monotonic() + _ARRIVAL_S
    while len(found) < count and time.monotonic() < until:
        found += reader.poll(0.2, count)
    return found


def _numbered(count: int, key: bytes = b"k") -> list[tuple[bytes, bytes]]:
    return [(key, str(number).encode()) for number in range(count)]


def _values(records: Sequence[Record]) -> list[bytes]:
    return [record.value for record in records]


async def test_what_is_acknowledged_is_read_back_with_its_key(logs: Logs) -> None:
    log = logs.log()
    assert await log.append(logs.topic, [(b"a", b"1"), (b"b", b"2")]) == [None, None]
    await log.close()
    found = _read(logs.reader("g"), 2)
    assert {(record.topic, record.key, record.value) for record in found} == {
        (logs.topic, b"a", b"1"),
        (logs.topic, b"b", b"2"),
    }


async def test_the_trace_goes_with_the_records(logs: Logs) -> None:
    log = logs.log()
    await log.append(logs.topic, [(b"a", b"1"), (b"b", b"2")], trace="00-1-2-01")
    await log.append(logs.topic, [(b"c", b"3")])
    await log.close()
    found = {record.value: record.trace for record in _read(logs.reader("g"), 3)}
    assert found == {b"1": "00-1-2-01", b"2": "00-1-2-01", b"3": ""}


async def test_records_of_one_key_keep_their_order_over_calls(logs: Logs) -> None:
    log = logs.log()
    sent = _numbered(300)
    for start in range(0, 300, 7):
        await log.append(logs.topic, sent[start : start + 7])
    await log.close()
    found = _read(logs.reader("g"), 300)
    assert _values(found) == [value for _, value in sent]
    assert [record.offset for record in found] == list(range(300))
    assert len({record.partition for record in found}) == 1


async def test_appending_nothing_is_nothing(logs: Logs) -> None:
    log = logs.log()
    assert await log.append(logs.topic, []) == []
    await log.close()


async def test_a_closed_log_refuses(logs: Logs) -> None:
    log = logs.log()
    await log.append(logs.topic, _numbered(1))
    await log.close()
    (failure,) = await log.append(logs.topic, _numbered(1))
    assert isinstance(failure, Unavailable)


async def test_a_log_whose_broker_answers_is_ready(logs: Logs) -> None:
    log = logs.log()
    assert await log.ready()
    await log.close()


async def test_poll_gives_at_most_the_limit_and_the_rest_later(logs: Logs) -> None:
    log = logs.log()
    await log.append(logs.topic, _numbered(10))
    await log.close()
    reader = logs.reader("g")
    polled: list[list[Record]] = []
    until = time.monotonic() + _ARRIVAL_S
    while sum(map(len, polled)) < 10 and time.monotonic() < until:
        polled.append(reader.poll(0.2, 4))
    assert max(map(len, polled)) <= 4
    assert [value for some in polled for value in _values(some)] == [value for _, value in _numbered(10)]


async def test_a_committed_position_is_kept_for_the_group(logs: Logs) -> None:
    log = logs.log()
    await log.append(logs.topic, _numbered(6))
    first = logs.reader("g")
    assert len(_read(first, 6)) == 6
    first.commit()
    logs.leave(first)
    await log.append(logs.topic, [(b"k", b"next")])
    await log.close()
    assert _values(_read(logs.reader("g"), 1)) == [b"next"]


async def test_what_was_not_committed_is_read_again(logs: Logs) -> None:
    log = logs.log()
    await log.append(logs.topic, _numbered(6))
    await log.close()
    first = logs.reader("g")
    assert len(_read(first, 3)) == 3
    first.commit()
    assert len(_read(first, 3)) == 3
    logs.leave(first)
    assert _values(_read(logs.reader("g"), 3)) == [b"3", b"4", b"5"]


async def test_groups_read_independently(logs: Logs) -> None:
    log = logs.log()
    await log.append(logs.topic, _numbered(4))
    await log.close()
    one = logs.reader("one")
    assert len(_read(one, 4)) == 4
    one.commit()
    assert len(_read(logs.reader("two"), 4)) == 4


async def test_lag_counts_what_was_not_polled(logs: Logs) -> None:
    log = logs.log()
    await log.append(logs.topic, [*_numbered(3, b"a"), *_numbered(4, b"b")])
    reader = logs.reader("g")
    assert reader.lag() == 7
    found = _read(reader, 2)
    assert reader.lag() == 7 - len(found)
    found += _read(reader, 7 - len(found))
    assert (len(found), reader.lag()) == (7, 0)
    reader.commit()
    logs.leave(reader)
    await log.append(logs.topic, _numbered(2))
    await log.close()
    assert logs.reader("g").lag() == 2


def test_polling_an_empty_topic_comes_back_empty(logs: Logs) -> None:
    reader = logs.reader("g")
    started = time.monotonic()
    assert reader.poll(0.2, 10) == []
    assert time.monotonic() - started < 5
    reader.commit()


@pytest.mark.engine
def test_topics_are_made_once(kafka: str) -> None:
    topic = _topic(f"test.{uuid.uuid4().hex}")
    assert create_topics(kafka, [topic]) == (topic.name,)
    assert create_topics(kafka, [topic]) == ()


@pytest.mark.engine
def test_one_message_is_published_durably(kafka: str) -> None:
    logs = Logs(kafka)
    create_topics(kafka, [_topic(logs.topic)])
    publish(kafka, logs.topic, b"key", b"value")
    (record,) = _read(logs.reader("g"), 1)
    logs.close()
    assert (record.key, record.value) == (b"key", b"value")
