"""What a second core is worth to serving when a second worker process comes with it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import fmean, median
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
LAYOUTS = (ONE_CORE, TWO_CORES, ONE_WORKER)

Runs = Mapping[int, Mapping[str, float]]
"""What was measured of one layout, by callers a worker."""
Round = Mapping[Layout, Runs]


def measure(scene: Scene, pace: Pace) -> dict[str, Figure]:
    """`workers2_efficiency`: answers a second of two workers on two cores / (2 * those of one worker on one core).

    That is the efficiency of weak scaling, T(n) / (n T(1)) (Gustafson, CACM 31(5), 1988): cores, workers and callers
    double together, and in both runs the cores carry everything, load generator, Redis and broker included. In it is
    what two workers lose: connections that are spread unevenly, smaller cohorts, the hand-over by the parent, one
    Redis and one kernel for both. It is too high by what does not double: the broker's own work, Redis's housekeeping
    and the like are carried by the one core alone in the one run and by two in the other.

    Runs are compared in pairs: of one round, with as many callers a worker; rounds take turns in who comes first. The
    figure is the median of the pairs, `…_lowest` and `…_highest` are their range, `…_at_N` the mean at N callers a
    worker. `workers2_rate_ratio` is the plain ratio, made in the same way, two workers against one where both have both
    cores: there one worker has a core for itself already, and the second only what the others leave. `workersN_…` are
    the best runs of both layouts; `…_cores` is the processor time a second that the server, the stores and the load
    generator took.
    """
    if "serving_workers" not in ServingSettings.model_fields:
        raise NotMeasured("serving has no workers")
    rounds: list[Round] = []
    for number in range(_ROUNDS):
        order = LAYOUTS if number % 2 == 0 else LAYOUTS[::-1]
        rounds.append({layout: _of(scene, pace, layout) for layout in order})
    return _figures(rounds)


def _figures(rounds: Sequence[Round]) -> dict[str, Figure]:
    efficiencies = {each: [rps / 2 for rps in found] for each, found in _ratios(rounds, ONE_CORE).items()}
    pairs = [each for found in efficiencies.values() for each in found]
    plain = [each for found in _ratios(rounds, ONE_WORKER).values() for each in found]
    best = {
        layout: max((run for each in rounds for run in each[layout].values()), key=lambda run: run["rps"])
        for layout in LAYOUTS
    }
    return {
        "workers2_efficiency": round(median(pairs), 3),
        "workers2_efficiency_lowest": round(min(pairs), 3),
        "workers2_efficiency_highest": round(max(pairs), 3),
        **{f"workers2_efficiency_at_{each}": round(fmean(found), 3) for each, found in efficiencies.items()},
        "workers2_rate_ratio": round(median(plain), 3),
        "workers1_on_two_cores_rps": round(best[ONE_WORKER]["rps"]),
        **{
            f"workers{layout.workers}_{name}": round(value, 3 if value < 10 else 0)
            for layout in (ONE_CORE, TWO_CORES)
            for name, value in best[layout].items()
        },
    }


def _ratios(rounds: Sequence[Round], against: Layout) -> dict[int, list[float]]:
    """By callers a worker, for each round the rate of two workers on two cores by that of `against`."""
    return {
        each: [found[TWO_CORES][each]["rps"] / found[against][each]["rps"] for found in rounds]
        for each in rounds[0][against]
    }


def _of(scene: Scene, pace: Pace, layout: Layout) -> Runs:
    told = {"FLYWHEEL_SERVING_WORKERS": str(layout.workers)}
    with ours(scene, cores=layout.cores, told=told) as server:
        return uvloop.run(_measured(scene, server, pace, layout))


async def _measured(scene: Scene, server: Running, pace: Pace, layout: Layout) -> Runs:
    async with opened(server) as pool:
        await check(scene, server, pool)
        with everything_on(layout.cores):
            await pace.warm(pool)
            return {each: await _run(server, pool, pace, layout.workers * each) for each in (FEW_CALLERS, CALLERS)}


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
