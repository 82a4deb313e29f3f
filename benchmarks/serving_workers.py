"""What a second core is worth to serving when a second worker process comes with it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import psutil
import uvloop

from benchmarks.figures import Figure
from benchmarks.serving_bench import CALLERS, FEW_CALLERS, NotMeasured, Pace
from benchmarks.serving_processes import OTHERS_CORE, SERVER_CORE, everything_on
from benchmarks.serving_rates import check
from benchmarks.serving_scene import Scene
from benchmarks.serving_servers import AnyPool, Running, opened, ours
from services.serving.settings import ServingSettings

_ROUNDS = 2
_BOTH = f"{SERVER_CORE},{OTHERS_CORE}"

GOALS = {"workers2_efficiency": ">= 0.85"}


class Layout(NamedTuple):
    """So many workers, and the cores that they share with load generator, Redis and broker."""

    workers: int
    cores: str


ONE_CORE, TWO_CORES, ONE_WORKER = Layout(1, SERVER_CORE), Layout(2, _BOTH), Layout(1, _BOTH)


def measure(scene: Scene, pace: Pace) -> dict[str, Figure]:
    """`workers2_efficiency`: answers a second of two workers on two cores / (2 * those of one worker on one core).

    That is the efficiency of weak scaling, T(n) / (n T(1)) (Gustafson, CACM 31(5), 1988): cores, workers and callers
    double together, and in both runs the cores carry everything, load generator, Redis and broker included. So no
    run has help that the other lacks, and whatever two workers lose is in it: connections that are spread unevenly,
    smaller cohorts, the hand-over by the parent, one Redis and one kernel for both.

    `workers2_rate_ratio` is the plain ratio, two workers against one where both have both cores: there one worker has
    a core for itself already, and the second only what the others leave. `workersN_…` are the two runs of the
    efficiency, each at the better of few and of many callers a worker; `…_cores` is the processor time a second that
    the server, the stores and the load generator took.
    """
    if "serving_workers" not in ServingSettings.model_fields:
        raise NotMeasured("serving has no workers")
    best: dict[Layout, dict[str, float]] = defaultdict(dict)
    for _ in range(_ROUNDS):
        for layout in (ONE_CORE, TWO_CORES, ONE_WORKER):
            best[layout] = max(best[layout], _of(scene, pace, layout), key=lambda found: found.get("rps", 0.0))
    return _figures(best)


def _figures(best: Mapping[Layout, Mapping[str, float]]) -> dict[str, Figure]:
    two_rps = best[TWO_CORES]["rps"]
    return {
        "workers2_efficiency": round(two_rps / (2 * best[ONE_CORE]["rps"]), 3),
        "workers2_rate_ratio": round(two_rps / best[ONE_WORKER]["rps"], 3),
        "workers1_on_two_cores_rps": round(best[ONE_WORKER]["rps"]),
        **{
            f"workers{layout.workers}_{name}": round(value, 3 if value < 10 else 0)
            for layout in (ONE_CORE, TWO_CORES)
            for name, value in best[layout].items()
        },
    }


def _of(scene: Scene, pace: Pace, layout: Layout) -> dict[str, float]:
    told = {"FLYWHEEL_SERVING_WORKERS": str(layout.workers)}
    with ours(scene, cores=layout.cores, told=told) as server:
        return uvloop.run(_measured(scene, server, pace, layout))


async def _measured(scene: Scene, server: Running, pace: Pace, layout: Layout) -> dict[str, float]:
    async with opened(server) as pool:
        await check(scene, server, pool)
        with everything_on(layout.cores):
            await pace.warm(pool)
            runs = [await _run(server, pool, pace, layout.workers * each) for each in (FEW_CALLERS, CALLERS)]
    return max(runs, key=lambda found: found["rps"])


async def _run(server: Running, pool: AnyPool, pace: Pace, callers: int) -> dict[str, float]:
    before, began_s = _cpu_s(server), time.perf_counter()
    run = await pace.capacity(pool, callers=callers)
    spent_s, after = time.perf_counter() - began_s, _cpu_s(server)
    cores = {f"{name}_cores": (after[name] - before[name]) / spent_s for name in after}
    return {"rps": run.rate_per_s, **cores, "generator_cores": run.cpu_share, "callers": callers}


def _cpu_s(server: Running) -> dict[str, float]:
    """User and system time of the server's processes together, and of Redis and the broker together."""
    root = psutil.Process(server.pid)
    own = {root, *root.children(recursive=True)}
    others = set(psutil.Process().children(recursive=True)) - own
    return {"server": _spent_s(own), "store": _spent_s(others)}


def _spent_s(processes: set[psutil.Process]) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in processes)
