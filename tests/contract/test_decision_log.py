"""Every decision log keeps what it is handed, never makes the caller wait, and counts each record once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flywheel.adapters.decision_spool import Promise, SpooledDecisionLog, Told
from flywheel.adapters.kafka_decision_log import KafkaDecisionLog
from flywheel.adapters.kafka_reader import KafkaReader
from flywheel.adapters.kafka_topics import create_topics
from flywheel.adapters.memory_decision_log import MemoryDecisionLog
from flywheel.contracts.topics import Topic
from flywheel.kernel.ports import DecisionLog
from tests.engines import free_port

TOPIC = Topic("decision-log.contract", carries="bytes", producers=(), consumers=(), partitions=2)


Make = Callable[["Scene", bool, int], DecisionLog]
"""Makes a log that tells a scene; whether its broker is away, and how many records may wait."""


class Scene:
    """A log that is reachable and one whose broker is away, with what they reported."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self.ends: Counter[str] = Counter()

    def acknowledge(self) -> None:
        self.ends["acknowledged"] += 1

    def lose(self, reason: str) -> None:
        self.ends[reason] += 1

    def log(self, *, away: bool = False, capacity: int = 1_000) -> DecisionLog:
        return self._make(self, away, capacity)


def memory(scene: Scene, away: bool, capacity: int) -> DecisionLog:
    log = MemoryDecisionLog(on_acknowledged=scene.acknowledge, on_lost=scene.lose, capacity=capacity)
    log.away = away
    return log


def spooled(directory: Path, promise: Promise, capacity_bytes: int) -> Make:
    """Makes spools in front of logs in memory."""

    def make(scene: Scene, away: bool, capacity: int) -> DecisionLog:
        told = Told(
            acknowledged=scene.acknowledge,
            lost=scene.lose,
            replayed=lambda: None,
            unprotected=lambda _, __: None,
            waited=lambda _: None,
        )
        behind = MemoryDecisionLog(on_acknowledged=scene.acknowledge, on_lost=scene.lose, capacity=capacity)
        behind.away = away
        return SpooledDecisionLog(
            behind, directory, told, promise=promise, capacity_bytes=capacity_bytes, patience_s=0.01
        )

    return make


ENGINES = ["memory", "spool process", "spool disk", "spool full", pytest.param("kafka", marks=pytest.mark.engine)]


@pytest.fixture(params=ENGINES)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    if request.param == "memory":
        yield Scene(memory)
        return
    if request.param.startswith("spool"):
        full = request.param.endswith("full")
        promise: Promise = "disk" if request.param.endswith("disk") else "process"
        yield Scene(spooled(tmp_path, promise, 0 if full else 1 << 20))
        return
    bootstrap = request.getfixturevalue("kafka")
    create_topics(bootstrap, [TOPIC])

    def kafka(scene: Scene, away: bool, capacity: int) -> DecisionLog:
        address = f"127.0.0.1:{free_port()}" if away else bootstrap
        return KafkaDecisionLog(
            address, TOPIC.name, on_acknowledged=scene.acknowledge, on_lost=scene.lose, capacity=capacity
        )

    yield Scene(kafka)


async def test_all_that_was_handed_over_is_acknowledged_by_the_end(scene: Scene) -> None:
    log = scene.log()
    log.start()
    log.append_many([(f"k{number % 7}".encode(), b"value") for number in range(500)])
    await log.close(10.0)
    assert scene.ends == {"acknowledged": 500}
    assert log.in_flight == 0


async def test_acknowledgements_come_without_a_close(scene: Scene) -> None:
    log = scene.log()
    log.start()
    log.append_many([(b"k", b"v")])
    async with asyncio.timeout(10):
        while log.in_flight:
            await asyncio.sleep(0.01)
    assert scene.ends == {"acknowledged": 1}
    await log.close(1.0)


@pytest.mark.parametrize("scene", ["memory", "spool full", ENGINES[-1]], indirect=True)
async def test_a_full_queue_loses_the_newest_and_says_so_at_once(scene: Scene) -> None:
    log = scene.log(away=True, capacity=10)
    log.start()
    started = time.perf_counter()
    for _ in range(25):
        log.append_many([(b"k", b"v")])
    assert time.perf_counter() - started < 0.5
    assert scene.ends == {"queue_full": 15}
    assert log.in_flight == 10
    await log.close(0.1)
    assert scene.ends == {"queue_full": 15, "shutdown": 10}
    assert log.in_flight == 0


@pytest.mark.engine
async def test_records_of_one_key_are_read_in_the_order_they_were_handed_over(kafka: str) -> None:
    topic = Topic("decision-log.order", carries="bytes", producers=(), consumers=(), partitions=2)
    create_topics(kafka, [topic])
    log = KafkaDecisionLog(kafka, topic.name, on_acknowledged=lambda: None, on_lost=lambda _: None)
    log.start()
    for number in range(200):
        log.append_many([(f"k{number % 3}".encode(), str(number).encode())])
    await log.close(10.0)
    reader = KafkaReader(kafka, [topic.name], group="decision-log-order")
    found: dict[bytes, list[int]] = {}
    until = time.monotonic() + 20
    while sum(map(len, found.values())) < 200 and time.monotonic() < until:
        for record in reader.poll(0.5, 500):
            found.setdefault(record.key or b"", []).append(int(record.value))
    reader.close()
    assert found == {f"k{rest}".encode(): list(range(rest, 200, 3)) for rest in range(3)}
