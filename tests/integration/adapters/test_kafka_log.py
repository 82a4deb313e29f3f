"""How the Kafka event log refuses while nothing answers, and how it outlives a broken producer."""

from __future__ import annotations

import asyncio
import time
import uuid

import pytest
from confluent_kafka import KafkaError

from flywheel.adapters.kafka_log import KafkaEventLog
from flywheel.adapters.kafka_reader import KafkaReader
from flywheel.adapters.kafka_topics import create_topics, publish
from flywheel.contracts.topics import Topic
from flywheel.kernel.ports import Unavailable
from tests.engines import free_port

RECORDS = [(b"k", b"v")] * 8


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    return f"127.0.0.1:{free_port()}"


async def test_without_a_broker_it_refuses_in_time_and_then_at_once(nobody: str) -> None:
    log = KafkaEventLog(nobody, delivery_timeout_s=1.0, max_in_flight=10)
    started = time.monotonic()
    first = asyncio.create_task(log.append("t", RECORDS))
    await asyncio.sleep(0)
    beyond_the_bound = await log.append("t", RECORDS)
    assert time.monotonic() - started < 0.5
    assert not first.done()
    assert [type(failure) for failure in beyond_the_bound] == [Unavailable] * 8
    assert [type(failure) for failure in await first] == [Unavailable] * 8
    assert time.monotonic() - started < 4
    started = time.monotonic()
    assert isinstance((await log.append("t", RECORDS))[0], Unavailable)
    assert time.monotonic() - started < 0.1
    assert not await log.ready()
    await log.close()


def test_without_a_broker_nothing_waits_without_an_end(nobody: str) -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable):
        publish(nobody, "t", b"k", b"v", timeout_s=0.5)
    with pytest.raises(Unavailable):
        create_topics(nobody, [Topic("t", "bytes", (), ())], timeout_s=0.5)
    reader = KafkaReader(nobody, ["t"], "g", timeout_s=0.5)
    assert reader.poll(0.1, 10) == []
    with pytest.raises(Unavailable):
        reader.lag()
    reader.close()
    assert time.monotonic() - started < 10


@pytest.mark.engine
async def test_after_a_fatal_error_a_new_producer_goes_on(kafka: str) -> None:
    topic = Topic(f"test.{uuid.uuid4().hex}", "bytes", (), ())
    create_topics(kafka, [topic])
    log = KafkaEventLog(kafka)
    assert await log.append(topic.name, RECORDS) == [None] * 8
    broken = log._producer
    log._on_error(KafkaError(KafkaError._FATAL, "the producer's identity was lost", True))
    assert isinstance((await log.append(topic.name, RECORDS))[0], Unavailable)
    async with asyncio.timeout(10):
        while any(await log.append(topic.name, RECORDS)):
            await asyncio.sleep(0.05)
    assert log._producer is not broken
    await log.close()


@pytest.mark.engine
async def test_one_record_too_large_is_its_own_fault_alone(kafka: str) -> None:
    topic = Topic(f"test.{uuid.uuid4().hex}", "bytes", (), ())
    create_topics(kafka, [topic])
    log = KafkaEventLog(kafka)
    before, failure, after = await log.append(topic.name, [(b"k", b"1"), (b"k", bytes(3_000_000)), (b"k", b"2")])
    assert isinstance(failure, ValueError)
    assert (before, after) == (None, None)
    assert await log.append(topic.name, RECORDS) == [None] * 8
    await log.close()
