"""The shadow scores beside the answers: bounded, last in line, and without a word in any of them."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from flywheel.adapters.memory_decision_log import MemoryDecisionLog
from flywheel.contracts.decisions import Step
from flywheel.contracts.shadows import ShadowScored
from flywheel.kernel.decision import Decided
from flywheel.kernel.lineup import Lineup, LoadedModel
from services.serving.models.arms import STOPPED_AFTER, ArmFailures
from services.serving.models.shadow import Shadow
from tests.decided import decided
from tests.serving_parts import USECASE


class Slow:
    """Scores when it is let; every score is the same."""

    def __init__(self, score: float = 0.9) -> None:
        self.value = score
        self.may = threading.Event()
        self.began = threading.Event()
        self.rows: list[int] = []

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        self.began.set()
        assert self.may.wait(5)
        self.rows.append(len(rows))
        return np.full(len(rows), self.value)


def counted(outcome: str) -> float:
    labels = {"usecase": USECASE.name, "outcome": outcome}
    return REGISTRY.get_sample_value("flywheel_serving_shadow_decisions_total", labels) or 0.0


class Scene:
    def __init__(self, scorer: Slow, capacity: int = 4) -> None:
        self.failed: list[tuple[str, str]] = []
        self.log = MemoryDecisionLog(on_acknowledged=lambda: None, on_lost=lambda _: None)
        self.lineup = Lineup(shadow=LoadedModel("v2", scorer))
        self.opened = 0
        self.shadow = Shadow(
            USECASE,
            lambda: self.lineup,
            self._open,
            capacity=capacity,
            on_failed=lambda version, reason: self.failed.append((version, reason)),
        )

    def _open(self) -> MemoryDecisionLog:
        self.opened += 1
        return self.log

    @property
    def messages(self) -> list[ShadowScored]:
        return [ShadowScored.model_validate_json(value) for _, value in self.log.records]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.001)


def made(number: int, step: Step = Step.MODEL) -> Decided:
    found = decided(decision_id=f"d{number}", model_version="v1", score=0.001, action="approve")
    found.case.step = step
    return found


async def test_each_decision_of_a_model_is_scored_and_named() -> None:
    scorer = Slow()
    scorer.may.set()
    scene = Scene(scorer)
    scene.shadow.offer([made(1), made(2, Step.RULE), made(3)])
    await until(lambda: len(scene.log.records) == 2)
    await scene.shadow.close(1.0)
    first, second = scene.messages
    assert (first.decision_id, second.decision_id) == ("d1", "d3")
    assert (first.version, first.score, first.action) == ("v2", 0.9, "decline")
    assert (first.served_version, first.served_score, first.served_action) == ("v1", 0.001, "approve")
    assert b"c-secret" not in b"".join(value for _, value in scene.log.records)


async def test_what_does_not_fit_is_dropped_at_once_and_counted() -> None:
    scorer = Slow()
    scene = Scene(scorer, capacity=4)
    dropped = counted("dropped")
    scene.shadow.offer([made(0)])
    await until(scorer.began.is_set)
    scene.shadow.offer([made(number) for number in range(1, 11)])
    assert counted("dropped") - dropped == 6
    scorer.may.set()
    await until(lambda: len(scene.log.records) == 5)
    await scene.shadow.close(1.0)
    assert [message.decision_id for message in scene.messages] == [f"d{number}" for number in range(5)]


async def test_without_a_shadow_nothing_is_opened() -> None:
    scene = Scene(Slow())
    scene.lineup = Lineup()
    scene.shadow.offer([made(1)])
    await scene.shadow.close(1.0)
    assert scene.opened == 0


@pytest.mark.parametrize("wrong", [float("nan"), 1.5])
async def test_a_shadow_that_gives_no_probability_is_told_of_and_logged_nowhere(wrong: float) -> None:
    scorer = Slow(wrong)
    scorer.may.set()
    scene = Scene(scorer)
    scene.shadow.offer([made(1)])
    await until(lambda: bool(scene.failed))
    await scene.shadow.close(1.0)
    assert scene.failed == [("v2", "a score is no probability")]
    assert scene.messages == []


async def test_scores_are_of_the_rows_that_were_decided_on() -> None:
    class Sum(Slow):
        def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
            return np.asarray(rows[:, 0], np.float64)

    scene = Scene(Sum())
    width = len(USECASE.feature_names)
    offered = []
    for number in range(4):
        one = made(number)
        one.hydrated = dataclasses.replace(one.hydrated, rows=np.full((1, width), number / 10, np.float32))
        offered.append(one)
    scene.shadow.offer(offered)
    await until(lambda: len(scene.log.records) == 4)
    await scene.shadow.close(1.0)
    assert [message.score for message in scene.messages] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_an_arm_is_stopped_by_failures_in_a_row_alone() -> None:
    stopped: list[tuple[str, str]] = []
    failures = ArmFailures(lambda version, reason: stopped.append((version, reason)))
    good, by_rule = (
        dataclasses.replace(decided(), model_version="v2"),
        dataclasses.replace(decided(), model_version="rule"),
    )
    for _ in range(10 * STOPPED_AFTER):
        failures.failed("v2", "NaN")
        failures.answered([by_rule, good])
        failures.failed("v2", "NaN")
        failures.answered([by_rule])
        failures.answered([good])
    for _ in range(10 * STOPPED_AFTER):
        failures.failed("v2", "NaN")
    failures.answered([by_rule] * 50)
    assert stopped == []
    for number in range(2, STOPPED_AFTER + 1):
        assert stopped == []
        failures.failed("v2", f"NaN {number}")
        failures.answered([by_rule])
        failures.answered([dataclasses.replace(good, model_version="v1")])
    assert stopped == [("v2", "5 failures in a row, the last one: NaN 5")]


def test_a_shadow_is_stopped_by_runs_in_a_row_that_give_nothing() -> None:
    stopped: list[str] = []
    failures = ArmFailures(lambda version, _: stopped.append(version))
    for _ in range(STOPPED_AFTER - 1):
        failures.failed_alone("v3", "NaN")
    failures.scored("v3")
    for _ in range(STOPPED_AFTER):
        assert stopped == []
        failures.failed_alone("v3", "NaN")
    assert stopped == ["v3"]
