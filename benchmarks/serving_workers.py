"""What a second worker process adds where the cores have other work, too."""

from __future__ import annotations

import time

import psutil
import uvloop

from benchmarks.figures import Figure
from benchmarks.serving_bench import NotMeasured, Pace
from benchmarks.serving_rates import check
from benchmarks.serving_scene import Scene
from benchmarks.serving_servers import Running, opened, ours
from services.serving.settings import ServingSettings

_ROUNDS = 2

GOALS = {"workers2_efficiency": ">= 0.85"}


def measure(scene: Scene, pace: Pace) -> dict[str, Figure]:
    """Decisions a second of the cores' time that serving got, with two workers against one, closed loop.

    Nothing is pinned here. On two cores the load generator, Redis and the broker take their shares of both, so the
    plain ratio of rates stands beside it with those shares.
    """
    if "serving_workers" not in ServingSettings.model_fields:
        raise NotMeasured("serving has no workers")
    rounds = [(_of(scene, pace, 1), _of(scene, pace, 2)) for _ in range(_ROUNDS)]
    one, two = (max((pair[place] for pair in rounds), key=lambda found: found["rps"]) for place in (0, 1))
    return {
        "workers2_efficiency": round((two["rps"] / two["cores"]) / (one["rps"] / one["cores"]), 3),
        "workers2_rate_ratio": round(two["rps"] / one["rps"], 3),
        **{
            f"workers{number}_{name}": round(value, 3 if value < 10 else 0)
            for number, each in ((1, one), (2, two))
            for name, value in each.items()
        },
    }


def _of(scene: Scene, pace: Pace, workers: int) -> dict[str, float]:
    with ours(scene, cores="0,1", told={"FLYWHEEL_SERVING_WORKERS": str(workers)}) as server:
        return uvloop.run(_measured(scene, server, pace))


async def _measured(scene: Scene, server: Running, pace: Pace) -> dict[str, float]:
    async with opened(server) as pool:
        await check(scene, server, pool)
        await pace.warm(pool)
        began_s, cpu_s = time.perf_counter(), _cpu_s(server)
        run = await pace.capacity(pool)
        cores = (_cpu_s(server) - cpu_s) / (time.perf_counter() - began_s)
    return {"rps": run.rate_per_s, "cores": cores, "generator_cores": run.cpu_share}


def _cpu_s(server: Running) -> float:
    """Of all its processes, in user and system time."""
    root = psutil.Process(server.pid)
    return sum(sum(each.cpu_times()[:2]) for each in (root, *root.children(recursive=True)))
