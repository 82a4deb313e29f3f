"""A pause of the server shows in what the generator measures; a pause of the generator makes its run void."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import grpc
import psutil
import pytest

from benchmarks.figures import ROOT
from loadtests.failures import CannotTest
from loadtests.faults import make_faults, victims
from loadtests.result import Figures
from loadtests.scenario import Action, Fault
from tests.engines import free_port
from tests.load_generator import RATE_PER_S, SECONDS, measured

_PAUSE_AT_S, _PAUSE_S = 1.0, 0.6


@contextmanager
def _process(*command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


@pytest.fixture
async def server() -> AsyncIterator[tuple[int, str]]:
    """The process id and the address of a server that echoes."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    with _process("benchmarks/serving_peers/echo.py", str(port)) as process:
        async with grpc.aio.insecure_channel(address) as channel:
            await asyncio.wait_for(channel.channel_ready(), 30)
        yield process.pid, address


async def test_a_server_that_stands_still_shows_in_the_latency_from_the_intended_moment(
    server: tuple[int, str],
) -> None:
    pid, address = server
    begun = asyncio.Event()
    running = asyncio.create_task(measured(address, begun))
    await begun.wait()
    fault = Fault(process="echo", action=Action.STOP, phase="-", for_s=_PAUSE_S)
    await make_faults([(_PAUSE_AT_S, fault)], time.perf_counter(), lambda: {"echo": pid})
    found = await running
    waited = _PAUSE_S / SECONDS
    assert found.good == RATE_PER_S * SECONDS
    # Those who came in the pause waited for the rest of it: a closed loop would have counted one of them.
    assert found.measures["answered_max_ms"] > (_PAUSE_S - 0.1) * 1e3
    # A busy machine may make some others wait as well.
    assert 0.6 * (1 - waited) < found.measures["goodput_share"] < 1 - waited + 0.08


async def test_a_generator_that_stands_still_calls_its_run_void(server: tuple[int, str]) -> None:
    _, address = server
    with _process("-m", "tests.load_generator", address) as generator:
        assert generator.stdout is not None
        assert await asyncio.to_thread(generator.stdout.readline) == "begun\n"
        await asyncio.sleep(_PAUSE_AT_S)
        generator.send_signal(signal.SIGSTOP)
        await asyncio.sleep(_PAUSE_S)
        generator.send_signal(signal.SIGCONT)
        found = Figures.model_validate(json.loads(await asyncio.to_thread(generator.stdout.readline)))
    assert "the generator itself stood still for" in found.void
    # The server was well all the time, and the numbers alone would have said otherwise.
    assert found.measures["answered_max_ms"] > (_PAUSE_S - 0.1) * 1e3


async def test_a_process_that_is_stopped_goes_on_and_one_that_is_killed_does_not() -> None:
    with _process("-c", "import time; time.sleep(60)") as process:
        seen = psutil.Process(process.pid)
        stop = Fault(process="it", action=Action.STOP, phase="-", for_s=30)
        making = asyncio.create_task(make_faults([(0.0, stop)], time.perf_counter(), lambda: {"it": process.pid}))
        while seen.status() != psutil.STATUS_STOPPED:
            await asyncio.sleep(0.01)
        # Whoever interrupts a test does not leave the stack standing still.
        making.cancel()
        await asyncio.wait((making,))
        assert seen.status() != psutil.STATUS_STOPPED
        kill = Fault(process="it", action=Action.KILL, phase="-")
        await make_faults([(0.0, kill)], time.perf_counter(), lambda: {"it": process.pid})
        assert process.wait(10) == -signal.SIGKILL


def test_of_what_runs_several_times_the_first_is_hurt() -> None:
    fault = Fault(process="serving", action=Action.KILL, phase="-")
    with _process("-c", "import time; time.sleep(60)") as process:
        assert victims(fault, {"serving-2": os.getpid(), "serving-1": process.pid, "balancer": 1}) == [process.pid]
    with pytest.raises(CannotTest, match="No process 'serving' runs here"):
        victims(fault, {"serving-1": 0, "balancer": 1})


def test_a_worker_is_hurt_only_where_there_are_workers() -> None:
    fault = Fault(process="it", action=Action.KILL, phase="-", child=True)
    with (
        _process("-c", "import time; time.sleep(60)") as process,
        pytest.raises(CannotTest, match="FLYWHEEL_SERVING_WORKERS=2"),
    ):
        victims(fault, {"it": process.pid})
