"""Open and closed loops on servers that are made up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import numpy as np

from loadtests.generator.arrivals import constant
from loadtests.generator.load import Nobody, Sink, closed_loop, open_loop
from loadtests.generator.outcomes import Outcome


class _Server:
    """Answers each request after `after_s`, but nothing before `stalled_until_s` after its first request."""

    def __init__(self, after_s: float = 0.001, stalled_s: float = 0.0, outcome: Outcome = Outcome.GOOD) -> None:
        self.sink: Sink = Nobody()
        self.asked: list[int] = []
        self._after_s = after_s
        self._stalled_s = stalled_s
        self._outcome = outcome
        self._first_s: float | None = None

    def send(self, numbers: Sequence[int]) -> None:
        now_s = time.perf_counter()
        self._first_s = self._first_s or now_s
        after_s = max(self._after_s, self._first_s + self._stalled_s - now_s)
        self.asked += numbers
        asyncio.get_running_loop().call_later(after_s, self._answer, list(numbers))

    def _answer(self, numbers: list[int]) -> None:
        for number in numbers:
            self.sink.done(number, self._outcome, time.perf_counter())
        self.sink.settled()


async def test_every_scheduled_request_is_sent_once_and_accounted_for() -> None:
    server = _Server()
    run = await open_loop(server, constant(1_000, 0.3), seconds=0.3)
    assert server.asked == list(range(300))
    assert run.count(Outcome.GOOD) == 300
    assert (run.sent_s >= run.intended_s).all()


async def test_a_stalled_server_cannot_hide_what_it_did_to_those_who_came_meanwhile() -> None:
    run = await open_loop(_Server(stalled_s=0.3), constant(1_000, 0.3), seconds=0.3)
    latency_ms = run.latency_ms(Outcome.GOOD)
    # Requests kept coming through the stall, and each waited for the rest of it.
    assert len(latency_ms) == 300
    assert np.median(latency_ms) > 100
    assert latency_ms.max() > 290


async def test_what_is_not_answered_within_the_patience_is_unanswered() -> None:
    run = await open_loop(_Server(after_s=30.0), constant(100, 0.1), seconds=0.1, patience_s=0.1)
    assert run.count(Outcome.UNANSWERED) == 10
    assert run.rate_per_s == 0


async def test_a_generator_that_is_held_up_voids_its_run() -> None:
    class Blocking(_Server):
        def send(self, numbers: Sequence[int]) -> None:
            super().send(numbers)
            # More work a request than there is time.
            until_s = time.perf_counter() + 0.003 * len(numbers)
            while time.perf_counter() < until_s:
                pass

    run = await open_loop(Blocking(), constant(1_000, 0.3), seconds=0.3)
    assert run.is_void()


async def test_callers_in_a_ring_ask_again_when_they_are_answered() -> None:
    run = await closed_loop(_Server(after_s=0.01), callers=4, seconds=0.5)
    # Four callers, a hundred a second each at most: each is one request at a time.
    assert 4 < run.rate_per_s < 401
    assert run.count(Outcome.UNANSWERED) == 0


async def test_callers_who_are_refused_are_counted_as_such() -> None:
    run = await closed_loop(_Server(after_s=0.01, outcome=Outcome.REFUSED), callers=2, seconds=0.1)
    assert run.count(Outcome.REFUSED) == len(run.outcome) > 0
    assert run.rate_per_s == 0
