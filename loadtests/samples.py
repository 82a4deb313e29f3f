"""What the sampler wrote, as series and as percentiles of stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import psutil

from loadtests.result import Gauges, StageFigures, Usage

Sample = Mapping[str, Any]


def read_samples(path: Path) -> list[Sample]:
    """All whole lines."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def usage_of(samples: Sequence[Sample], start_s: float) -> list[Usage]:
    """Every process over time, the busiest first; one that was started again goes on under its name."""
    found: dict[str, Usage] = {}
    for before, now in pairwise(samples):
        took_s = now["at_s"] - before["at_s"]
        for name, (cpu_s, rss_mib) in now["processes"].items():
            usage = found.setdefault(name, Usage(process=name, at_s=[], cores=[], rss_mib=[]))
            # A process that was started again has used less than before it died.
            used_s = max(0.0, cpu_s - before["processes"].get(name, (cpu_s, 0))[0])
            usage.at_s.append(round(now["at_s"] - start_s, 3))
            usage.cores.append(round(used_s / took_s, 4))
            usage.rss_mib.append(rss_mib)
    return sorted(found.values(), key=lambda each: -sum(each.cores))


def machine_busy(samples: Sequence[Sample], start_s: float) -> list[tuple[float, float]]:
    """Moments, and the share of all processors that was busy since the one before, whoever's doing it was."""
    cores = psutil.cpu_count() or 1

    def share(before: Sample, now: Sample) -> float:
        idle = (now["idle_s"] - before["idle_s"]) / (now["at_s"] - before["at_s"]) / cores
        return round(float(min(1.0, max(0.0, 1 - idle))), 4)

    return [(round(now["at_s"] - start_s, 3), share(before, now)) for before, now in pairwise(samples)]


def gauges_of(samples: Sequence[Sample], start_s: float) -> Gauges:
    """What serving said of itself."""
    told = [each for each in samples if each["serving"]]
    return Gauges(
        at_s=[round(each["at_s"] - start_s, 3) for each in told],
        in_flight=[each["serving"]["in_flight"] for each in told],
        limit=[each["serving"]["limit"] for each in told],
    )


def stages_between(samples: Sequence[Sample], from_s: float, to_s: float) -> list[StageFigures]:
    """Each stage's durations between two moments (by `time.perf_counter`), from the samples nearest inside them.

    Empty where serving was not seen twice, or was started again in between.
    """
    inside = [each for each in samples if each["serving"] and from_s <= each["at_s"] <= to_s]
    if len(inside) < 2:
        return []
    first, last = inside[0]["serving"]["stages"], inside[-1]["serving"]["stages"]
    found = [_stage(name, first.get(name, {}), last[name]) for name in sorted(last)]
    return [each for each in found if each is not None]


def _stage(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> StageFigures | None:
    counts = {bound: after[bound] - before.get(bound, 0.0) for bound in after}
    number = counts.get("+Inf", 0.0)
    if number <= 0:
        return None
    ladder = sorted((float(bound), value) for bound, value in counts.items() if bound != "sum")
    return StageFigures(
        stage=name,
        decisions=int(number),
        mean_ms=counts["sum"] / number * 1e3,
        p50_ms=_quantile_ms(ladder, 0.50),
        p95_ms=_quantile_ms(ladder, 0.95),
        p99_ms=_quantile_ms(ladder, 0.99),
    )


def _quantile_ms(ladder: Sequence[tuple[float, float]], at: float) -> float:
    """As Prometheus's `histogram_quantile` does: evenly spread within the bucket; the last finite bound beyond it."""
    wanted = ladder[-1][1] * at
    low_s = below = 0.0
    for bound_s, cumulative in ladder:
        if cumulative >= wanted:
            if bound_s == float("inf"):
                return low_s * 1e3
            share = (wanted - below) / (cumulative - below) if cumulative > below else 1.0
            return (low_s + (bound_s - low_s) * share) * 1e3
        low_s, below = bound_s, cumulative
    return low_s * 1e3
