"""Reports of decisions go on after a fatal error of the producer and after a report that failed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError, KafkaException

from flywheel.adapters import kafka_decision_log
from flywheel.adapters.kafka_decision_log import KafkaDecisionLog

Report = Callable[[KafkaError | None, object], None]


class SlowProducer:
    """Reports a record only at the second poll after it was settled, as a broker's thread may."""

    def __init__(self, _: dict[str, object]) -> None:
        self.waiting: list[Report] = []
        self.settled: list[tuple[Report, KafkaError | None]] = []
        self.polls_until_reports = 0
        self.refusal: KafkaError | None = None

    def __len__(self) -> int:
        return len(self.waiting) + len(self.settled)

    def produce(self, *_: object, on_delivery: Report) -> None:
        if self.refusal is not None:
            raise KafkaException(self.refusal)
        self.waiting.append(on_delivery)

    def settle(self, error: KafkaError | None = None) -> None:
        self.settled += [(report, error) for report in self.waiting]
        self.waiting.clear()
        self.polls_until_reports = 2

    def purge(self) -> None:
        self.settle(KafkaError(KafkaError._PURGE_QUEUE))

    def poll(self, _: float) -> int:
        self.polls_until_reports -= 1
        reported = 0
        while self.settled and self.polls_until_reports <= 0:
            report, error = self.settled.pop(0)
            report(error, None)
            reported += 1
        return reported

    def flush(self, _: float) -> int:
        self.polls_until_reports = 0
        self.poll(0)
        return len(self)


class Scene:
    """A log, its producers in the order they were made, and what it reported."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.producers: list[SlowProducer] = []
        self.ends: Counter[str] = Counter()
        self.failing = False
        monkeypatch.setattr(kafka_decision_log, "Producer", self._make)
        monkeypatch.setattr(kafka_decision_log, "_POLL_FAILED_S", 0.01, raising=False)
        self.log = KafkaDecisionLog(
            "nowhere:1", "topic", on_acknowledged=self._acknowledge, on_lost=lambda why: self.ends.update([why])
        )

    def _make(self, config: dict[str, object]) -> SlowProducer:
        self.producers.append(SlowProducer(config))
        return self.producers[-1]

    def _acknowledge(self) -> None:
        if self.failing:
            self.failing = False
            raise RuntimeError("no counter")
        self.ends["acknowledged"] += 1

    def fail_for_good(self) -> None:
        self.log._on_error(KafkaError(KafkaError._FATAL, "the producer's identity was lost", True))

    async def reported(self, count: int) -> None:
        async with asyncio.timeout(5):
            while self.ends.total() < count:
                await asyncio.sleep(0.005)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


async def test_what_a_replaced_producer_held_is_reported_as_lost(scene: Scene) -> None:
    for _ in range(3):
        scene.log.append_many([(b"k", b"v")])
    scene.log.start()
    scene.fail_for_good()
    await scene.reported(3)
    assert (scene.ends, scene.log.in_flight) == ({"undelivered": 3}, 0)
    scene.log.append_many([(b"k", b"v")])
    assert [len(producer) for producer in scene.producers] == [0, 1]
    scene.producers[1].settle()
    await scene.reported(4)
    assert scene.ends == {"undelivered": 3, "acknowledged": 1}
    await scene.log.close(1.0)


async def test_a_close_reports_what_a_replaced_producer_still_held(scene: Scene) -> None:
    scene.log.append_many([(b"k", b"v")])
    scene.log._replace("the producer's identity was lost")
    await scene.log.close(0.0)
    assert (scene.ends, scene.log.in_flight) == ({"shutdown": 1}, 0)


async def test_what_a_broken_producer_does_not_take_stays_with_the_caller(scene: Scene) -> None:
    ends: list[str | None] = []
    records = [(b"k", b"v")] * 3
    assert scene.log.send(records[:1], ends.append) == 1
    scene.producers[0].refusal = KafkaError(KafkaError._FATAL, "the producer's identity was lost")
    assert scene.log.send(records, ends.append) == 0
    assert (ends, scene.log.sending) == ([], 1)
    scene.log._replace("the producer's identity was lost")
    assert scene.log.send(records, ends.append) == 3
    scene.producers[1].settle()
    scene.log.start()
    async with asyncio.timeout(5):
        while scene.log.sending:
            await asyncio.sleep(0.005)
    assert Counter(ends) == {"undelivered": 1, None: 3}
    await scene.log.close(1.0)


@pytest.mark.parametrize("code", sorted(kafka_decision_log._NEVER_TAKEN))
async def test_what_no_broker_will_take_is_refused_and_the_rest_is_taken(scene: Scene, code: int) -> None:
    ends: list[str | None] = []
    scene.producers[0].refusal = KafkaError(code)
    assert scene.log.send([(b"k", b"v")] * 2, ends.append) == 2
    assert (ends, scene.log.sending) == (["refused", "refused"], 0)
    await scene.log.close(0.0)


async def test_reports_go_on_after_one_that_failed(scene: Scene) -> None:
    scene.log.start()
    for _ in range(3):
        scene.log.append_many([(b"k", b"v")])
    scene.failing = True
    scene.producers[0].settle()
    await scene.reported(2)
    assert (scene.ends, scene.log.in_flight) == ({"acknowledged": 2}, 0)
    await scene.log.close(1.0)
