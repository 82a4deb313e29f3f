"""Workers behind one socket: connections are shared out, and no call fails when workers are replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest

from flywheel.adapters.listener import bound
from flywheel.adapters.worker_pool import Gone, Worker, WorkerPool, WorkersFailed
from tests.grpc_wire import PATH

CALLERS = 8
# When a worker is killed: one call under way, and one sent before the caller saw that its connection has gone.
FAILED_AT_MOST = 2 * CALLERS
ECHO = [sys.executable, "-m", "tests.echo_worker"]


def pool_of(
    count: int = 2,
    command: list[str] | None = None,
    ended: list[Worker] | None = None,
    start_timeout_s: float = 30,
    silence_s: float = 30,
) -> WorkerPool:
    return WorkerPool(
        command or ECHO,
        count,
        start_timeout_s=start_timeout_s,
        stop_timeout_s=10,
        silence_s=silence_s,
        on_ended=(ended if ended is not None else []).append,
    )


@asynccontextmanager
async def serving(pool: WorkerPool) -> AsyncIterator[str]:
    taken = await bound("127.0.0.1:0")
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    await pool.start(taken)
    try:
        await until(lambda: all(worker.takes_connections for worker in pool.workers))
        yield address
    finally:
        await pool.stop()
        assert pool.workers == []


async def until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


class Callers:
    """Callers that go on and on, each with a connection of its own."""

    def __init__(self, address: str) -> None:
        self.answers: Counter[int] = Counter()
        self.failed: list[grpc.aio.AioRpcError] = []
        self.longest_gap_s = 0.0
        self._address = address
        self._stop = asyncio.Event()

    @property
    def answered(self) -> int:
        return self.answers.total()

    async def __aenter__(self) -> Callers:
        self._tasks = [asyncio.create_task(self._call_on()) for _ in range(CALLERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def more(self, calls: int = 500) -> None:
        wanted = self.answered + calls
        await until(lambda: self.answered >= wanted)

    async def _call_on(self) -> None:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 50))
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            method = channel.unary_unary(PATH)
            last_s = time.perf_counter()
            while not self._stop.is_set():
                try:
                    answer = await method(b"later" if self.answered % 100 == 0 else b"now", timeout=10)
                except grpc.aio.AioRpcError as error:
                    self.failed.append(error)
                    continue
                self.answers[int(answer)] += 1
                now_s = time.perf_counter()
                self.longest_gap_s, last_s = max(self.longest_gap_s, now_s - last_s), now_s


def shares(pool: WorkerPool) -> list[int]:
    return sorted(worker.connections for worker in pool.workers)


async def test_connections_are_shared_out_and_no_call_fails_when_all_workers_are_replaced() -> None:
    ended: list[Worker] = []
    pool = pool_of(ended=ended)
    async with serving(pool) as address, Callers(address) as callers:
        await callers.more()
        assert shares(pool) == [4, 4]
        for _ in range(3):
            before = {worker.process.pid for worker in pool.workers}
            assert await pool.roll()
            assert not before & {worker.process.pid for worker in pool.workers}
            await callers.more()
            await until(lambda: shares(pool) == [4, 4])
        assert callers.failed == []
    assert len(callers.answers) == 8
    assert [len(worker.last_metrics) for worker in ended] == [110_000] * 8


async def test_a_worker_that_is_killed_is_replaced_and_gets_its_share_back() -> None:
    pool = pool_of()
    async with serving(pool) as address, Callers(address) as callers:
        await callers.more()
        victim = pool.workers[0].process.pid
        callers.longest_gap_s = 0.0
        os.kill(victim, signal.SIGKILL)
        await until(lambda: victim not in {worker.process.pid for worker in pool.workers})
        await until(lambda: len(pool.workers) == 2 and shares(pool) == [4, 4])
        await callers.more()
        assert len(callers.failed) <= FAILED_AT_MOST
        assert {error.code() for error in callers.failed} <= {grpc.StatusCode.UNAVAILABLE}
        assert callers.longest_gap_s < 1.0


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGUSR1])
async def test_a_worker_that_lives_and_does_nothing_is_replaced(number: signal.Signals) -> None:
    ended: list[Worker] = []
    pool = pool_of(ended=ended, silence_s=2)
    async with serving(pool) as address, Callers(address) as callers:
        await callers.more()
        victim = pool.workers[0].process.pid
        # To the second one it answers by blocking its event loop.
        os.kill(victim, number)
        await until(lambda: victim not in {worker.process.pid for worker in pool.workers})
        await until(lambda: len(pool.workers) == 2 and shares(pool) == [4, 4])
        await callers.more()
        assert {error.code() for error in callers.failed} <= {grpc.StatusCode.UNAVAILABLE}
    assert [(worker.process.pid, worker.gone_for) for worker in ended if worker.gone_for] == [(victim, Gone.HUNG)]


async def test_a_successor_that_never_begins_to_serve_is_replaced_as_well() -> None:
    ended: list[Worker] = []
    pool = pool_of(ended=ended, start_timeout_s=2, silence_s=1)
    async with serving(pool):
        pool._command = [*ECHO, "sleep"]
        pool.workers[0].process.kill()
        await until(lambda: Gone.HUNG in [worker.gone_for for worker in ended])
        pool._command = ECHO
        await until(lambda: sum(worker.takes_connections for worker in pool.workers) == 2)


async def test_callers_wait_while_no_worker_is_there() -> None:
    pool = pool_of(1)
    async with serving(pool) as address, Callers(address) as callers:
        await callers.more(10)
        os.kill(pool.workers[0].process.pid, signal.SIGKILL)
        await until(lambda: pool.workers == [])
        await callers.more(10)
        assert len(callers.failed) <= FAILED_AT_MOST


async def test_workers_that_cannot_start_are_no_pool_and_do_not_replace_others() -> None:
    failing = [*ECHO, "fail"]
    pool = pool_of(command=failing)
    with pytest.raises(WorkersFailed):
        await pool.start(await bound("127.0.0.1:0"))
    assert pool.workers == []
    pool = pool_of()
    async with serving(pool) as address, Callers(address) as callers:
        before = {worker.process.pid for worker in pool.workers}
        pool._command = failing
        assert not await pool.roll()
        assert {worker.process.pid for worker in pool.workers} == before
        await callers.more()
        assert callers.failed == []


async def test_a_build_that_cannot_start_is_tried_once_and_leaves_no_worker_too_many() -> None:
    pool = pool_of()
    async with serving(pool):
        pool._command = [*ECHO, "fail"]
        assert not await pool.roll()
        # Whoever would try again waits for that in a task of its own.
        await until(lambda: len(pool._tasks) == 2)
        assert len(pool.workers) == 2
        pool._command = ECHO
        assert await pool.roll()
        await until(lambda: len(pool._tasks) == 2)
        assert len(pool.workers) == 2


async def test_a_worker_that_dies_while_its_successor_starts_has_that_one_and_no_other() -> None:
    pool = pool_of()
    async with serving(pool):
        old = pool.workers[0]
        rolling = asyncio.create_task(pool.roll())
        await until(lambda: len(pool.workers) == 3)
        old.process.kill()
        await old.gone.wait()
        assert await rolling
        await until(lambda: sorted(worker.slot for worker in pool.workers) == [0, 1] and len(pool._tasks) == 2)


async def test_a_slot_whose_worker_and_successor_both_die_is_filled_again() -> None:
    pool = pool_of()
    async with serving(pool):
        old = pool.workers[0]
        pool._command = [*ECHO, "fail"]
        rolling = asyncio.create_task(pool.roll())
        old.process.kill()
        assert not await rolling
        pool._command = ECHO
        await until(lambda: sorted(worker.slot for worker in pool.workers) == [0, 1] and len(pool._tasks) == 2)
