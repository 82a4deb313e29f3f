"""Every log of erasures tells whoever asks, at once and under the right key only."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from flywheel.adapters.kafka_erasures import KafkaErasures
from flywheel.adapters.kafka_topics import create_topics, publish
from flywheel.adapters.memory_erasures import MemoryErasures
from flywheel.contracts.erasure import Erased
from flywheel.contracts.events import from_us
from flywheel.contracts.topics import erasures_topic
from flywheel.kernel.erasure import EraseKey, OtherKey
from flywheel.kernel.ports import ErasureLog, Unavailable
from tests.engines import free_port

Open = Callable[[EraseKey], ErasureLog]


def erased(key: EraseKey, name: str, at_us: int) -> Erased:
    return Erased(
        usecase=key.usecase,
        entity="card",
        pseudonym=key.pseudonym("card", name),
        key_check=key.check,
        erased_at=from_us(at_us),
        erased_by="somebody",
        removed={"lake": 3},
    )


@pytest.fixture
def key() -> EraseKey:
    return EraseKey(b"secret", f"use-{uuid.uuid4().hex}")


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.engine)])
def connect(request: pytest.FixtureRequest, key: EraseKey) -> Iterator[Open]:
    opened: list[ErasureLog] = []
    memory = MemoryErasures(key)
    bootstrap = request.getfixturevalue("kafka") if request.param == "kafka" else None
    if bootstrap:
        create_topics(bootstrap, [erasures_topic(key.usecase)])

    def opening(under: EraseKey) -> ErasureLog:
        log: ErasureLog = KafkaErasures(bootstrap, under) if bootstrap else memory.as_read_under(under)
        opened.append(log)
        return log

    yield opening
    for log in opened:
        log.close()


def test_nobody_was_erased_at_first(connect: Open, key: EraseKey) -> None:
    assert not connect(key).current()


def test_what_is_published_is_told_at_once_to_old_and_new_readers(connect: Open, key: EraseKey) -> None:
    log, reader = connect(key), connect(key)
    assert not reader.current()
    for number in range(20):
        log.publish(erased(key, f"c{number}", number))
        assert len(reader.current().of("card")) == number + 1
    assert connect(key).current() == reader.current() == log.current()
    assert reader.current().covers("card", "c7", 7)
    assert not reader.current().covers("card", "c7", 8)


def test_the_newest_erasure_of_somebody_holds(connect: Open, key: EraseKey) -> None:
    log = connect(key)
    log.publish(erased(key, "c1", 5))
    log.publish(erased(key, "c1", 3))
    assert log.current().covers("card", "c1", 5)


def test_another_key_is_refused_every_time(connect: Open, key: EraseKey) -> None:
    connect(key).publish(erased(key, "c1", 5))
    other = connect(EraseKey(b"other", key.usecase))
    for _ in range(2):
        with pytest.raises(OtherKey):
            other.current()


def test_a_twin_that_is_away_says_so(key: EraseKey) -> None:
    log = MemoryErasures(key)
    log.away = True
    with pytest.raises(Unavailable):
        log.current()
    with pytest.raises(Unavailable):
        log.publish(erased(key, "c1", 5))


@pytest.mark.engine
def test_a_broker_that_is_away_says_so(key: EraseKey) -> None:
    log = KafkaErasures(f"127.0.0.1:{free_port()}", key, timeout_s=1.0)
    with pytest.raises(Unavailable):
        log.current()
    with pytest.raises(Unavailable):
        log.publish(erased(key, "c1", 5))
    log.close()


@pytest.mark.engine
def test_what_is_no_erasure_is_passed_over(kafka: str, key: EraseKey) -> None:
    topic = erasures_topic(key.usecase)
    create_topics(kafka, [topic])
    publish(kafka, topic.name, b"k", b"{")
    log = KafkaErasures(kafka, key)
    log.publish(erased(key, "c1", 5))
    assert log.current().covers("card", "c1", 5)
    log.close()
