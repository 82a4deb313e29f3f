"""Several workers behind one port: one that dies is replaced, all are replaced under load."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from flywheel.contracts.proto.decision_pb2 import DecideRequest
from flywheel.contracts.proto.decision_pb2_grpc import DecisionsStub
from tests.serving_parts import payment
from tests.serving_process import Started, started

pytestmark = pytest.mark.engine

CALLERS = 8
# When a worker is killed: one call under way, and one sent before the caller saw that its connection has gone.
FAILED_AT_MOST = 2 * CALLERS
# A machine that runs other tests as well may give its processes their turn late.
PAUSES_S = 2.0
# What it says when it is overloaded or late; neither comes from workers that come and go.
_OF_A_BUSY_MACHINE = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)


class Running(Started):
    """The process that accepts, and its workers."""

    def workers(self) -> set[int]:
        """The processes behind it."""
        return {child.pid for child in psutil.Process(self.process.pid).children()}

    def counted(self, name: str) -> float:
        """The sum of that counter over all its labels."""
        text = httpx.get(f"{self.metrics_url}/metrics").text
        return sum(s.value for f in text_string_to_metric_families(text) for s in f.samples if s.name == name)

    async def ready(self, workers: int) -> bool:
        """Whether so many workers answer."""
        answer = await asyncio.to_thread(httpx.get, f"{self.metrics_url}/readyz")
        return f"{workers} of 2 workers" in answer.text


@pytest.fixture
def serving(tmp_path: Path, kafka: str, redis_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    with started(tmp_path, kafka, redis_server, monkeypatch, SERVING_WORKERS="2") as process:
        yield Running(**vars(process))


@dataclass
class Load:
    """What callers met, each with a connection of its own."""

    answered: int = 0
    refused: int = 0
    failed: list[grpc.aio.AioRpcError] = field(default_factory=list)
    longest_gap_s: float = 0.0


@asynccontextmanager
async def calling(address: str) -> AsyncIterator[Load]:
    load, stop = Load(), asyncio.Event()

    async def call_on(number: int) -> None:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 50))
        last_s = time.perf_counter()
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            decide = DecisionsStub(channel).Decide
            while not stop.is_set():
                request = DecideRequest(usecase="fraud", subject=payment(event_id=f"tx-{number}-{load.answered}"))
                try:
                    await decide(request, timeout=5)
                except grpc.aio.AioRpcError as error:
                    if error.code() in _OF_A_BUSY_MACHINE:
                        load.refused += 1
                        await asyncio.sleep(0.02)
                    else:
                        load.failed.append(error)
                else:
                    load.answered += 1
                    now_s = time.perf_counter()
                    load.longest_gap_s, last_s = max(load.longest_gap_s, now_s - last_s), now_s

    callers = [asyncio.create_task(call_on(number)) for number in range(CALLERS)]
    try:
        yield load
    finally:
        stop.set()
        await asyncio.gather(*callers)


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = 30.0) -> None:
    async with asyncio.timeout(within_s):
        while not await condition():
            await asyncio.sleep(0.05)


async def test_workers_are_replaced_under_load_without_a_failed_call_and_one_that_is_killed_comes_back(
    serving: Running,
) -> None:
    await until(lambda: serving.ready(2))
    before = serving.workers()
    async with calling(serving.address) as load:

        async def more(calls: int = 200) -> None:
            wanted = load.answered + calls

            async def reached() -> bool:
                return load.answered >= wanted

            await until(reached)

        async def replaced(pid: set[int]) -> bool:
            return len(serving.workers()) == 2 and not serving.workers() & pid and await serving.ready(2)

        await more()
        os.kill(serving.process.pid, signal.SIGHUP)
        await until(lambda: replaced(before))
        await more()
        assert load.failed == []
        answered = load.answered
        assert serving.counted("flywheel_serving_decisions_total") >= answered
        assert serving.counted("flywheel_serving_workers_died_total") == 0
        # Killed: what it had under way fails, and nothing else; the other worker takes its callers at once.
        victim = min(serving.workers())
        load.longest_gap_s = 0.0
        os.kill(victim, signal.SIGKILL)
        await until(lambda: replaced({victim}))
        await more()
        assert len(load.failed) <= FAILED_AT_MOST
        assert {error.code() for error in load.failed} <= {grpc.StatusCode.UNAVAILABLE}
        assert load.longest_gap_s < 1.0 + PAUSES_S
        assert serving.counted("flywheel_serving_workers_died_total") == 1
        failed = len(load.failed)
        await more()
        assert len(load.failed) == failed
    # What clients were asked to come again is shared out over both.
    text = httpx.get(f"{serving.metrics_url}/metrics").text
    assert 'worker="0"' in text
    assert 'worker="1"' in text
    os.kill(serving.process.pid, signal.SIGTERM)
    assert await asyncio.to_thread(serving.process.wait, 20) == 0


async def test_workers_end_when_the_process_that_accepts_is_killed(serving: Running) -> None:
    await until(lambda: serving.ready(2))
    workers = [psutil.Process(pid) for pid in serving.workers()]
    serving.process.kill()
    _, alive = await asyncio.to_thread(psutil.wait_procs, workers, 15)
    assert alive == []
