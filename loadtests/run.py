"""Makes a load test on the stack that runs: measures its capacity, plays the scenario, and keeps what came of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import figures
from flywheel.contracts.settings import PlatformSettings
from loadtests import plan, samples, surroundings
from loadtests.assessment import assess, check_measures
from loadtests.faults import make_faults
from loadtests.findings import by_second, stretch_results
from loadtests.generator.load import open_loop
from loadtests.generator.outcomes import Run
from loadtests.generator.pulse import Pulse
from loadtests.preparation import Order, Ready, Tell, first_in_line, prepare
from loadtests.result import FaultResult, Result, TrafficResult
from loadtests.sampler import GENERATOR
from loadtests.scenario import Action, Fault

_LEAD_S = 1.5
_PATIENCE_S = 2.0


@dataclass(frozen=True)
class _Played:
    runs: Mapping[str, Run]
    pulse: Pulse
    began_s: float


async def run(order: Order, settings: PlatformSettings) -> Result:
    """The result of one load test. Raises CannotTest."""
    check_measures(order.scenario)
    order.tell(f"{order.scenario.title}: {order.scenario.about}")
    began_at = datetime.now(UTC)
    run_id = f"{int(began_at.timestamp()):x}"
    async with AsyncExitStack() as stack:
        ready = await prepare(order, settings, run_id, stack)
        requests = sum(map(len, ready.schedules.values()))
        order.tell(f"{len(ready.stretches)} stretches, {ready.seconds:.0f} s, {requests:,} requests")
        with _sampling(order, settings) as seen, first_in_line():
            played = await _play(ready, order.tell)
    return _result(order, settings, ready, played, seen, began_at)


async def _play(ready: Ready, tell: Tell) -> _Played:
    async with Pulse() as pulse:
        began_s = time.perf_counter() + _LEAD_S
        hurting = asyncio.create_task(make_faults(ready.faults, began_s, ready.processes))
        telling = asyncio.create_task(_tell_stretches(ready, began_s, tell))
        try:
            runs = await _runs(ready, began_s)
            await hurting
        finally:
            hurting.cancel()
            telling.cancel()
            await asyncio.wait((hurting, telling))
    return _Played(runs, pulse, began_s)


async def _runs(ready: Ready, began_s: float) -> dict[str, Run]:
    tasks = {
        name: asyncio.create_task(
            open_loop(ready.pools[name], schedule, seconds=ready.seconds, patience_s=_PATIENCE_S, start_s=began_s)
        )
        for name, schedule in ready.schedules.items()
    }
    return {name: await task for name, task in tasks.items()}


async def _tell_stretches(ready: Ready, began_s: float, tell: Tell) -> None:
    lines = [(each.start_s, f"{each.name}: {each.per_s:,.0f}/s for {each.seconds:g} s") for each in ready.stretches]
    lines += [(at_s, f"    {_what(fault)}") for at_s, fault in ready.faults]
    for at_s, line in sorted(lines, key=lambda each: each[0]):
        await asyncio.sleep(max(0.0, began_s + at_s - time.perf_counter()))
        tell(f"{at_s:6.1f} of {ready.seconds:.0f} s  {line}")


def _what(fault: Fault) -> str:
    whose = f"a worker of {fault.process}" if fault.child else fault.process
    return f"{whose} is killed" if fault.action is Action.KILL else f"{whose} stands still for {fault.for_s:g} s"


@contextmanager
def _sampling(order: Order, settings: PlatformSettings) -> Iterator[list[samples.Sample]]:
    others = [f"{name}={pid}" for name, pid in {GENERATOR: os.getpid(), **order.others}.items()]
    found: list[samples.Sample] = []
    # In a place of its own: of a container's root nothing can be written.
    with TemporaryDirectory(prefix="flywheel-samples-") as directory:
        path = Path(directory) / "samples.jsonl"
        process = subprocess.Popen(
            [sys.executable, "-m", "loadtests.sampler", str(path), *others],
            cwd=figures.ROOT,
            env={**os.environ, "FLYWHEEL_SERVING_METRICS_PORT": str(settings.serving_metrics_port)},
        )
        try:
            yield found
        finally:
            process.terminate()
            process.wait(10)
            if path.exists():
                found += samples.read_samples(path)


def _result(
    order: Order,
    settings: PlatformSettings,
    ready: Ready,
    played: _Played,
    seen: Sequence[samples.Sample],
    began_at: datetime,
) -> Result:
    began_s, runs = played.began_s, played.runs
    within_ms = {target.traffic.name: target.within_ms for target in ready.targets}
    stretches = stretch_results(ready.stretches, runs, within_ms, played.pulse, seen, began_s)
    usage = samples.usage_of(seen, began_s)
    return Result(
        scenario=order.name,
        title=order.scenario.title,
        about=order.scenario.about,
        declared=order.declared,
        began_at=began_at.isoformat(timespec="seconds"),
        seconds=ready.seconds,
        usecase=ready.targets[0].usecase.name,
        commit=figures.commit(order.checkout),
        machine=figures.machine(),
        versions=surroundings.versions(settings),
        settings=surroundings.changed_settings(settings),
        capacity_per_s=round(ready.capacity_per_s, 1),
        generator_cores=round(max(run.cpu_share for run in runs.values()), 3),
        longest_stall_ms=round(played.pulse.longest_s(began_s, began_s + ready.seconds) * 1e3, 1),
        machine_busy=samples.machine_busy(seen, began_s),
        traffic=_traffic(ready, runs),
        stretches=stretches,
        faults=[
            FaultResult(at_s=plan.moment_of(fault, ready.stretches), for_s=fault.for_s, what=_what(fault))
            for fault in order.scenario.fault
        ],
        usage=usage,
        gauges=samples.gauges_of(seen, began_s),
        objectives=assess(order.scenario, stretches, usage),
    )


def _traffic(ready: Ready, runs: Mapping[str, Run]) -> list[TrafficResult]:
    return [
        TrafficResult(
            name=target.traffic.name,
            kind=target.traffic.kind,
            address=target.address,
            usecase=target.usecase.name,
            within_ms=target.within_ms,
            request_bytes=ready.request_bytes[target.traffic.name],
            statuses={
                str(status): count for status, count in sorted(ready.pools[target.traffic.name].statuses.items())
            },
            seconds=by_second(runs[target.traffic.name], target.within_ms),
        )
        for target in ready.targets
    ]
