"""The guard stops asking a store that does not answer, and does not take an impatient caller for a broken store."""

from __future__ import annotations

import pytest

from flywheel.adapters.guarded_reader import GuardedReader
from flywheel.kernel.ports import Answer, PartlyUnavailable, Question, Stored, Unavailable, ViewKey

NOTHING = Question([])


class Flaky:
    def __init__(self) -> None:
        self.away = False
        self.failure: type[Unavailable] = Unavailable
        self.asked = 0
        self.closed = False

    async def read(self, question: Question, timeout_s: float) -> Answer:
        self.asked += 1
        if self.away:
            raise self.failure(f"nothing within {timeout_s} s")
        return Answer([Stored()] * len(question.keys), None)

    async def close(self) -> None:
        self.closed = True


class Scene:
    def __init__(self) -> None:
        self.inner = Flaky()
        self.now_s = 0.0
        self.changes: list[bool] = []
        self.guarded = GuardedReader(
            self.inner, patience_s=0.01, steady_s=lambda: self.now_s, on_change=self.changes.append
        )

    async def fails(self, timeout_s: float = 0.02) -> None:
        with pytest.raises(Unavailable):
            await self.guarded.read(NOTHING, timeout_s)


async def test_failures_over_a_tenth_of_a_second_open_it_and_one_trial_closes_it_again() -> None:
    scene = Scene()
    scene.inner.away = True
    for _ in range(10):
        await scene.fails()
        scene.now_s += 0.05
    asked = scene.inner.asked
    assert (asked < 10, scene.changes) == (True, [True])
    scene.inner.away = False
    scene.now_s += 0.1
    assert await scene.guarded.read(Question([ViewKey("v", "e")]), 0.02) == Answer([Stored()], None)
    assert scene.changes == [True, False]
    await scene.guarded.read(NOTHING, 0.02)
    assert scene.inner.asked == asked + 2


async def test_calls_that_fail_at_one_moment_do_not_open_it() -> None:
    scene = Scene()
    scene.inner.away = True
    for _ in range(50):
        await scene.fails()
    assert (scene.inner.asked, scene.guarded.is_open) == (50, False)


async def test_a_store_of_which_a_part_is_away_answers_those_who_ask_for_the_rest() -> None:
    scene = Scene()
    scene.inner.away, scene.inner.failure = True, PartlyUnavailable
    for _ in range(10):
        await scene.fails()
        scene.now_s += 0.05
    assert (scene.inner.asked, scene.guarded.is_open) == (10, False)


async def test_while_it_stays_away_it_is_asked_ten_times_a_second() -> None:
    scene = Scene()
    scene.inner.away = True
    for _ in range(2_000):
        await scene.fails()
        scene.now_s += 0.001
    assert scene.changes == [True]
    # A tenth of a second of failures, one a millisecond, then one trial each tenth.
    assert 100 + 17 <= scene.inner.asked <= 102 + 20


async def test_a_short_timeout_proves_nothing_about_the_store() -> None:
    scene = Scene()
    scene.inner.away = True
    for _ in range(10):
        await scene.fails(timeout_s=0.001)
    assert (scene.inner.asked, scene.guarded.is_open) == (10, False)


async def test_closing_closes_the_reader_behind_it() -> None:
    scene = Scene()
    await scene.guarded.close()
    assert scene.inner.closed
