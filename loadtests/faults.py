"""Makes declared faults happen to the processes of a stack on this machine, and undoes what is to be undone."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import psutil

from loadtests.failures import CannotTest
from loadtests.replicas import replicas_of
from loadtests.scenario import Action, Fault


def victims(fault: Fault, processes: Mapping[str, int]) -> list[int]:
    """Process ids that a fault is made to. Raises CannotTest when there are none."""
    running = sorted(name for name, pid in processes.items() if pid)
    mine = replicas_of(fault.process, running)
    if not mine:
        told = ", ".join(running) or "none"
        raise CannotTest(f"No process {fault.process!r} runs here to be hurt; running: {told} (`make status`)")
    root = processes[mine[0]]
    try:
        children = [child.pid for child in psutil.Process(root).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    if not fault.child:
        return [root, *children]
    if not children:
        raise CannotTest(
            f"{fault.process!r} has no worker processes; start it with several: FLYWHEEL_SERVING_WORKERS=2 make up"
        )
    return [min(children)]


async def make_faults(
    faults: Sequence[tuple[float, Fault]], start_s: float, processes: Callable[[], Mapping[str, int]]
) -> None:
    """Makes each fault at its moment (seconds after `start_s`, by `time.perf_counter`), in their order.

    What stands still goes on in any case, also when the test is interrupted. Raises CannotTest.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            for at_s, fault in faults:
                tasks.create_task(_make(fault, start_s + at_s, processes))
    except ExceptionGroup as group:
        raise group.exceptions[0] from group


async def _make(fault: Fault, at_s: float, processes: Callable[[], Mapping[str, int]]) -> None:
    await _until(at_s)
    # Asking the supervisor takes milliseconds in which no request would be sent.
    pids = victims(fault, await asyncio.to_thread(processes))
    if fault.action is Action.KILL:
        _signal(pids, signal.SIGKILL)
        return
    try:
        _signal(pids, signal.SIGSTOP)
        await _until(at_s + fault.for_s)
    finally:
        _signal(pids, signal.SIGCONT)


async def _until(at_s: float) -> None:
    await asyncio.sleep(max(0.0, at_s - time.perf_counter()))


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
