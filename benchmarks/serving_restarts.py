"""Requests that fail while models are swapped and while processes are replaced, under load all the time."""

from __future__ import annotations

import asyncio
import signal
import time
import urllib.request
from collections.abc import Awaitable, Callable

import grpc
import numpy as np
import psutil
import uvloop

from benchmarks.card_scoring import usecase
from benchmarks.figures import Figure
from benchmarks.serving_bench import NotMeasured, Pace, tell
from benchmarks.serving_rates import check
from benchmarks.serving_scene import Scene
from benchmarks.serving_servers import AnyPool, Running, opened, ours
from benchmarks.serving_stock import deploy, publish
from loadtests.generator.arrivals import poisson
from loadtests.generator.load import open_loop
from loadtests.generator.outcomes import Outcome, Run
from services.serving.settings import ServingSettings

_SWAPS, _RESTARTS = 100, 10
_VERSIONS = 4
_WORKERS = 2
_SHARE = 0.4
_LEAST_S = 20.0
_BURST_S = 2.0
_EACH_TIMEOUT_S = 30.0

GOALS = {"failed_requests_swap": "== 0", "failed_requests_rolling": "== 0"}


def swaps(scene: Scene, pace: Pace) -> dict[str, Figure]:
    """A hundred times another model becomes the champion."""
    versions = [f"swap-{number}" for number in range(_VERSIONS)]
    for version in versions:
        publish(scene.models, usecase, version, scene.model)
    count = round(_SWAPS * pace.share)

    async def swap(server: Running, number: int) -> None:
        version = versions[number % _VERSIONS]
        await asyncio.to_thread(deploy, scene.models, usecase, version)
        await _until(lambda: asyncio.to_thread(_serves, server, version), f"{version} is not served")

    with ours(scene, told={"FLYWHEEL_SERVING_MODEL_POLL_S": "0.1"}) as server:
        run, statuses = uvloop.run(_under_load(scene, server, pace, count, swap))
    deploy(scene.models, usecase, "v1")
    return _figures("swap", count, run, statuses)


def rolling(scene: Scene, pace: Pace) -> dict[str, Figure]:
    """Ten times all worker processes are replaced, one after another."""
    if "serving_workers" not in ServingSettings.model_fields:
        raise NotMeasured("serving has no workers to replace one after another")
    count = max(1, round(_RESTARTS * pace.share))

    async def restart(server: Running, number: int) -> None:
        del number
        before = _workers(server)

        async def replaced() -> bool:
            now = _workers(server)
            return not now & before and len(now) >= _WORKERS

        psutil.Process(server.pid).send_signal(signal.SIGHUP)
        await _until(replaced, f"the workers {before} are not replaced")

    with ours(scene, cores="0,1", told={"FLYWHEEL_SERVING_WORKERS": str(_WORKERS)}) as server:
        run, statuses = uvloop.run(_under_load(scene, server, pace, count, restart))
    return _figures("rolling", count, run, statuses)


async def _under_load(
    scene: Scene, server: Running, pace: Pace, count: int, disturb: Callable[[Running, int], Awaitable[None]]
) -> tuple[Run, str]:
    async with opened(server) as pool:
        await check(scene, server, pool)
        await pace.warm(pool)
        rate_per_s = (await pace.best_capacity(pool)).rate_per_s * _SHARE
        pool.statuses.clear()
        disturbing = asyncio.create_task(_disturb(server, count, disturb))
        runs = [await _burst(pool, rate_per_s, 0)]
        while not disturbing.done() or len(runs) * _BURST_S < _LEAST_S * pace.share:
            runs.append(await _burst(pool, rate_per_s, len(runs)))
        took_s = await disturbing
        tell(f"  {count} in {took_s:.0f} s")
        tell(f"  statuses: {_named(pool.statuses)}")
        return joined(runs), _named(pool.statuses)


def _named(statuses: dict[int, int]) -> str:
    names = {each.value[0]: each.name for each in grpc.StatusCode}
    return ", ".join(f"{names[status]} {count}" for status, count in sorted(statuses.items()))


async def _burst(pool: AnyPool, rate_per_s: float, seed: int) -> Run:
    return await open_loop(pool, poisson(rate_per_s, _BURST_S, seed), seconds=_BURST_S)


async def _disturb(server: Running, count: int, disturb: Callable[[Running, int], Awaitable[None]]) -> float:
    began_s = time.monotonic()
    for number in range(count):
        await disturb(server, number)
    return time.monotonic() - began_s


def joined(runs: list[Run]) -> Run:
    """These runs, one after another, as one."""
    starts_s = np.cumsum([0.0, *(run.seconds for run in runs[:-1])])
    return Run(
        np.concatenate([run.intended_s + s for run, s in zip(runs, starts_s, strict=True)]),
        np.concatenate([run.sent_s + s for run, s in zip(runs, starts_s, strict=True)]),
        np.concatenate([run.done_s + s for run, s in zip(runs, starts_s, strict=True)]),
        np.concatenate([run.outcome for run in runs]),
        seconds=sum(run.seconds for run in runs),
        cpu_share=max(run.cpu_share for run in runs),
    )


def _figures(what: str, count: int, run: Run, statuses: str) -> dict[str, Figure]:
    tell(f"  {run.told()}")
    return {
        f"failed_requests_{what}": run.count(Outcome.FAILED, Outcome.UNANSWERED),
        f"{what}_refused": run.count(Outcome.REFUSED),
        f"{what}_by_the_rule": run.count(Outcome.DEGRADED),
        f"{what}_statuses": statuses,
        f"{what}_requests": len(run.outcome),
        f"{what}_rps": round(run.rate_per_s),
        f"{what}_count": count,
        f"{what}_p99_ms": round(p99_ms, 2) if (p99_ms := run.percentile_ms(99)) < float("inf") else None,
    }


def _serves(server: Running, version: str) -> bool:
    # Its metrics say it as well, but telling all of them twenty times a second is a load of its own.
    url = f"http://127.0.0.1:{server.settings['FLYWHEEL_SERVING_METRICS_PORT']}/readyz"
    with urllib.request.urlopen(url, timeout=5) as answer:
        said: str = answer.read().decode()
    return version in said


def _workers(server: Running) -> set[int]:
    """Process ids below the server's own."""
    return {each.pid for each in psutil.Process(server.pid).children(recursive=True)}


async def _until(holds: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    until_s = time.monotonic() + _EACH_TIMEOUT_S
    while not await holds():
        if time.monotonic() > until_s:
            raise NotMeasured(otherwise)
        await asyncio.sleep(0.05)
