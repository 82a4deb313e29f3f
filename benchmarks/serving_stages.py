"""Where a decision's time goes, by serving's own histogram under load, and what the data plane allocates for one."""

from __future__ import annotations

import re
import time
import tracemalloc
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.figures import ROOT, Figure
from benchmarks.serving_bench import Pace
from benchmarks.serving_data_plane import decider_on, requests
from benchmarks.serving_rates import check
from benchmarks.serving_scene import Scene
from benchmarks.serving_servers import Running, opened, ours

_SERIES = re.compile(r'^flywheel_serving_stage_seconds_(sum|count)\{.*stage="(\w+)".*\} (\S+)$')
_SHARE = 0.5
_TOGETHER, _COHORTS = 16, 32
_LARGEST = 12


def measure(scene: Scene, pace: Pace) -> dict[str, Figure]:
    """Mean microseconds of each stage at half of the capacity; blocks and bytes a decision, by file."""
    with ours(scene) as server:
        found = uvloop.run(_stages(scene, server, pace))
    return found | uvloop.run(_allocations(scene))


async def _stages(scene: Scene, server: Running, pace: Pace) -> dict[str, Figure]:
    async with opened(server) as pool:
        await check(scene, server, pool)
        await pace.warm(pool)
        capacity = await pace.best_capacity(pool)
        before = _scraped(server)
        run = await pace.at(pool, capacity.rate_per_s * _SHARE, seconds=10)
        after = _scraped(server)
    found: dict[str, Figure] = {"stages_rps": round(run.rate_per_s)}
    for stage in sorted(after):
        decisions = after[stage]["count"] - before[stage]["count"]
        seconds = after[stage]["sum"] - before[stage]["sum"]
        # The stage of a durable log has no samples where decisions carry no money.
        if decisions:
            found[f"stage_{stage}_mean_us"] = round(seconds / decisions * 1e6, 1)
    return found | {"stages_whole_call_p50_us": round(run.percentile_ms(50) * 1e3, 1)}


def _scraped(server: Running) -> dict[str, dict[str, float]]:
    url = f"http://127.0.0.1:{server.settings['FLYWHEEL_SERVING_METRICS_PORT']}/metrics"
    found: dict[str, dict[str, float]] = defaultdict(lambda: {"sum": 0.0, "count": 0.0})
    with urllib.request.urlopen(url, timeout=5) as answer:
        for line in answer.read().decode().splitlines():
            if match := _SERIES.match(line):
                found[match[2]][match[1]] += float(match[3])
    return found


async def _allocations(scene: Scene) -> dict[str, Figure]:
    """What is alive when a cohort has been decided and before it is answered, a decision."""
    decider, reader = decider_on(scene)
    asked = requests()
    cohorts = [asked[place : place + _TOGETHER] for place in range(0, _COHORTS * _TOGETHER, _TOGETHER)]
    for cohort in cohorts:
        await decider.decide(cohort)
    tracemalloc.start()
    try:
        before, began_s = tracemalloc.take_snapshot(), time.perf_counter()
        kept: list[Any] = [await decider.decide(cohort) for cohort in cohorts]
        took_s, after = time.perf_counter() - began_s, tracemalloc.take_snapshot()
        tracemalloc.reset_peak()
        held = tracemalloc.get_traced_memory()[0]
        kept.append(await decider.decide(cohorts[0]))
        peak = tracemalloc.get_traced_memory()[1] - held
    finally:
        tracemalloc.stop()
        await reader.close()
    del took_s
    decisions = _COHORTS * _TOGETHER
    differences = [each for each in after.compare_to(before, "filename") if each.size_diff > 0]
    found: dict[str, Figure] = {
        "allocated_peak_bytes": round(peak / _TOGETHER),
        "allocated_kept_bytes": round(sum(each.size_diff for each in differences) / decisions),
        "allocated_kept_blocks": round(sum(each.count_diff for each in differences) / decisions, 1),
    }
    differences.sort(key=lambda each: each.size_diff, reverse=True)
    for each in differences[:_LARGEST]:
        found[f"allocated_kept_bytes of {_shown(each.traceback[0].filename)}"] = round(each.size_diff / decisions)
    return found


def _shown(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else f"{path.parent.name}/{path.name}"
