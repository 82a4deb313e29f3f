"""The parity job samples within bounds, waits for the archive, reports a period, and outlives what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flywheel.adapters.memory_erasures import MemoryErasures
from flywheel.contracts.decisions import DecisionLogged
from flywheel.contracts.events import from_us, to_us
from flywheel.contracts.parity import MismatchExample, ParityReport
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ports import Record, Unavailable
from flywheel.kernel.tally import Tally
from services.features.parity.attributes import AttributeCheck
from services.features.parity.check import ParityCheck
from services.features.parity.sampling import Sampler
from services.features.parity.watch import ParityWatch
from tests.decision_rows import decided
from tests.ranking_rows import ranking
from usecases.fraud import usecase

AT = datetime(2026, 5, 4, 12, tzinfo=UTC)
SETTLE_US = 5_000_000
KEY = EraseKey(b"secret", "fraud")


class Steady:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Check(ParityCheck):
    """Finds one wrong value in every sample, and takes a second for it."""

    def __init__(self, clock: Steady) -> None:
        attributes = AttributeCheck(usecase, Path("nowhere"))
        super().__init__(compile_plan(usecase), nullcontext, attributes, MemoryErasures(KEY), 0)  # type: ignore[arg-type]
        self.clock = clock
        self.examined: list[list[str]] = []
        self.fails = False

    def examine(self, decisions: Sequence[DecisionLogged]) -> Tally:
        self.clock.now_s += 1.0
        if self.fails:
            raise Unavailable("the archive is away")
        self.examined.append([logged.event_id for logged in decisions])
        tally = Tally(decisions=len(decisions))
        wrong = MismatchExample(event_id=decisions[0].event_id, decided_at=AT, online=2.0, offline=1.0)
        tally.compare("f", wrong, stale=False)
        return tally


@dataclass
class Scene:
    """A watch over a clock, an archive and a list of what it published."""

    clock: Steady = field(default_factory=Steady)
    archived_until_us: int | None = None
    published: list[ParityReport] = field(default_factory=list)
    offset: int = 0

    def __post_init__(self) -> None:
        self.check = Check(self.clock)
        self.watch = ParityWatch(
            "fraud",
            Sampler(3, 30.0, SETTLE_US, seed=1, steady_s=self.clock),
            self.check,
            archived_until_us=lambda: self.archived_until_us,
            publish=self.published.append,
            kept=timedelta(hours=1),
            steady_s=self.clock,
        )

    def interval(self, at: datetime, number: int = 2) -> None:
        """Decisions of one moment, and the end of the interval."""
        records = [self.record(decided(f"e{n}", at, [0.0] * len(usecase.features))) for n in range(number)]
        self.clock.now_s += 31.0
        self.watch.step(records)

    def record(self, message: Any) -> Record:
        self.offset += 1
        value = message if isinstance(message, bytes) else message.to_bytes()
        return Record("fraud.decisions", 0, self.offset, b"k", value)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_sample_waits_until_the_archive_holds_what_it_saw(scene: Scene) -> None:
    scene.interval(AT)
    for until_us in (None, 0, to_us(AT) + SETTLE_US - 1):
        scene.archived_until_us = until_us
        scene.watch.step([])
        assert scene.check.examined == []
    scene.archived_until_us = to_us(AT) + SETTLE_US
    scene.watch.step([])
    scene.clock.now_s += 100
    scene.watch.step([])
    assert scene.check.examined == [["e0", "e1"]]
    assert scene.watch.latest == scene.published[-1]


def test_of_a_flood_only_a_sample_is_kept_and_of_waiting_samples_the_newest(scene: Scene) -> None:
    for minute in range(20):
        scene.interval(AT + timedelta(minutes=minute), number=100)
    scene.archived_until_us = to_us(AT + timedelta(days=1))
    for _ in range(20):
        scene.clock.now_s += 25
        scene.watch.step([])
    assert [len(ids) for ids in scene.check.examined] == [3] * 8


def test_records_that_are_no_decision_are_passed_over(scene: Scene) -> None:
    scene.archived_until_us = to_us(AT) + SETTLE_US
    scene.watch.step([scene.record(b"{}")])
    scene.interval(AT, number=1)
    assert scene.check.examined == [["e0"]]


def test_a_report_is_of_the_period_and_no_longer(scene: Scene) -> None:
    scene.archived_until_us = to_us(AT + timedelta(days=1))
    for minute in (0, 30, 89):
        scene.interval(AT + timedelta(minutes=minute))
    assert [report.decisions for report in scene.published] == [2, 4, 4]
    assert scene.published[-1].since == AT + timedelta(minutes=30)
    assert scene.published[-1].until == AT + timedelta(minutes=89)
    assert scene.published[-1].mismatches == 2


def test_after_a_check_it_rests_for_twenty_times_as_long(scene: Scene) -> None:
    scene.interval(AT)
    scene.interval(AT)
    scene.archived_until_us = to_us(AT + timedelta(days=1))
    scene.watch.step([])
    # The check took a second.
    scene.clock.now_s += 19.9
    scene.watch.step([])
    assert len(scene.check.examined) == 1
    scene.clock.now_s += 0.2
    scene.watch.step([])
    assert len(scene.check.examined) == 2


def test_it_outlives_a_broker_and_an_archive_that_are_away(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.features.parity.watch._AGAIN_AFTER_S", 0.0)
    scene.archived_until_us = to_us(AT + timedelta(days=1))
    scene.check.fails = True
    stopping = threading.Event()
    starts = 0

    def start() -> None:
        nonlocal starts
        starts += 1
        if starts == 1:
            raise Unavailable("no broker")

    def poll(_: float, __: int) -> list[Record]:
        scene.clock.now_s += 31
        if scene.clock.now_s > 200:
            scene.check.fails = False
        if scene.published:
            stopping.set()
        return [scene.record(decided("e", from_us(to_us(AT)), [0.0] * len(usecase.features)))]

    scene.watch.run(start, poll, stopping)
    assert starts == 2
    assert scene.published[0].decisions == 1


def test_of_a_ranking_every_candidate_shown_is_in_the_sample() -> None:
    clock = Steady()
    sampler = Sampler(3, 30.0, SETTLE_US, seed=1, ranks=True, steady_s=clock)
    clock.now_s += 31.0
    sampler.offer([Record("shop.decisions", 0, 1, b"k", ranking(AT, AT).to_bytes())])
    sample = sampler.due(to_us(AT) + SETTLE_US)
    assert sample is not None
    assert [logged.event_id for logged in sample.decisions] == ["visit-1:a", "visit-1:b"]
