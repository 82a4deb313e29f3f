"""Steady traffic for a long time: is anything lost, counted twice, left behind, or growing?

    python -m loadtests.soak --minutes 30 --rate 300

Starts a stack of its own, lets its world play at the given rate, stops the world, waits until everything is processed,
and compares what was sent with what arrived where. Writes build/figures/soak.json.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from benchmarks import figures
from infra.local.processes import declaration, processes
from infra.local.sandbox import Sandbox, sandbox
from infra.local.status import rss_mib, stack_rss_mib
from infra.local.supervision import ALIVE, Supervisor
from loadtests.accounts import balance, gauges, settle

_SAMPLE_EVERY_S = 5.0
_WARM_UP_SHARE = 0.2
_EDGE_SHARE = 0.2
_DRAIN_TIMEOUT_S = 180


@dataclass
class Samples:
    """What was seen while traffic ran: one entry a sample, by name."""

    series: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, value: float) -> None:
        self.series[name].append(value)

    def steady(self, name: str) -> list[float]:
        """The samples after the warm-up."""
        values = self.series[name]
        return values[int(len(values) * _WARM_UP_SHARE) :]

    def growth(self, name: str) -> float:
        """Mean of the last fifth less mean of the first fifth, after the warm-up."""
        values = self.steady(name)
        edge = max(1, int(len(values) * _EDGE_SHARE))
        return fmean(values[-edge:]) - fmean(values[:edge])


def sample(stack: Sandbox, samples: Samples) -> None:
    """One look at backlog, decisions and memory of every process."""
    settings = stack.settings
    url = f"http://127.0.0.1:{settings.features_metrics_port}/metrics"
    for job, value in gauges(url, "flywheel_features_backlog_events", "stream").items():
        samples.add(f"backlog {job}", value)
    url = f"http://127.0.0.1:{settings.world_metrics_port}/metrics"
    for value in gauges(url, "flywheel_world_behind_seconds", "usecase").values():
        samples.add("world behind s", value)
    statuses = Supervisor(settings).statuses()
    for name, status in statuses.items():
        if status.pid:
            samples.add(f"rss {name}", rss_mib(status.pid))
    samples.add("rss", stack_rss_mib(settings))


def soak(stack: Sandbox, minutes: float, tell: Callable[[str], None]) -> dict[str, figures.Figure]:
    """Figures of one soak on a stack that is up and whose world plays."""
    samples = Samples()
    began = time.monotonic()
    told = 0.0
    while (elapsed := time.monotonic() - began) < minutes * 60:
        sample(stack, samples)
        if elapsed - told >= 60 or not told:
            told = elapsed or 1e-9
            backlog = samples.series["backlog tiles"][-1]
            rss = samples.series["rss"][-1]
            tell(f"{elapsed / 60:5.1f} of {minutes:g} min  backlog {backlog:6.0f}  rss {rss:6.0f} MiB")
        time.sleep(max(0.0, _SAMPLE_EVERY_S - (time.monotonic() - began - elapsed)))
    supervisor = Supervisor(stack.settings)
    alive = {name for name, status in supervisor.statuses().items() if status.state in ALIVE}
    missing = {process.name for process in processes(declaration(stack.settings))} - alive
    settle(stack, _DRAIN_TIMEOUT_S)
    totals = balance(stack)
    tiles = "backlog tiles"
    growths = {name: samples.growth(name) for name in samples.series if name.startswith("rss ")}
    for name, growth in sorted(growths.items()):
        tell(f"{name:14} {fmean(samples.steady(name)):7.0f} MiB  {growth:+7.1f}")
    return {
        "minutes": minutes,
        **totals,
        "unaccounted": totals["events_sent"] - totals["events_rejected"] - totals["events_archived"],
        "uncounted": totals["events_archived_distinct"] - totals["events_counted"],
        "counted_twice": totals["events_counted_most"] - totals["events_archived_distinct"],
        "lag_max": max(samples.steady(tiles)),
        "lag_growth": samples.growth(tiles),
        "world_behind_max_s": max(samples.steady("world behind s")),
        "rss_mib": fmean(samples.steady("rss")),
        "rss_growth_mib": samples.growth("rss"),
        "processes_missing_at_end": len(missing),
    }


def goals(rate: float) -> dict[str, str]:
    """No event unaccounted for, none counted twice or not at all, the stream within ten seconds, memory flat."""
    return {
        "unaccounted": "== 0",
        "uncounted": "== 0",
        "counted_twice": "== 0",
        "lag_max": f"<= {10 * rate:.0f}",
        "lag_growth": f"<= {rate:.0f}",
        "rss_growth_mib": "<= 100",
        "processes_missing_at_end": "== 0",
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=300, help="payments a second, on the average of a day")
    parser.add_argument("--customers", type=int, default=5000)
    parser.add_argument(
        "--history-days", type=int, default=45, help="so that the longest windows are full at the start"
    )
    arguments = parser.parse_args()
    directory = Path("build/soak")
    shutil.rmtree(directory, ignore_errors=True)
    world = {
        "rate": arguments.rate,
        "customers": arguments.customers,
        "history_days": arguments.history_days,
    }
    stack = sandbox(directory, world=world)

    def tell(line: str) -> None:
        print(line, flush=True)

    tell(f"starting a stack with {arguments.customers} cards and {arguments.history_days} days of history")
    started = stack.python("infra.local", "up", timeout_s=1800)
    if started.returncode:
        tell(started.stdout)
        return 1
    try:
        measured = soak(stack, arguments.minutes, tell)
    finally:
        stack.python("infra.local", "down", timeout_s=120)
    path = figures.write("soak", {"rate_per_s": arguments.rate, **measured}, goals(arguments.rate))
    tell(path.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
