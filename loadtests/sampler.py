"""Looks at a stack every second, from a process of its own, so that looking delays no request.

    python -m loadtests.sampler FILE [NAME=PID…]

appends one JSON object a line to FILE until SIGTERM: what each process has used, and what serving's metrics say. Times
are those of `time.perf_counter`, which all processes of a machine share.
"""

from __future__ import annotations

import re
import signal
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

import orjson
import psutil

from flywheel.contracts.settings import PlatformSettings
from infra.local.scale import serving_metrics_urls
from infra.local.supervision import Supervisor

EVERY_S = 1.0
GENERATOR = "load generator"

_STAGE = re.compile(r"^flywheel_serving_stage_seconds_(bucket|sum)\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_GAUGES = {
    "in_flight": re.compile(r"^flywheel_serving_in_flight_requests\{.*\} (\S+)$", re.MULTILINE),
    "limit": re.compile(r"^flywheel_serving_admission_limit\{.*\} (\S+)$", re.MULTILINE),
    "log_lost": re.compile(r"^flywheel_serving_log_lost_total\{.*\} (\S+)$", re.MULTILINE),
}


def usage(roots: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """CPU seconds since its begin and resident MiB of each process with all its descendants, by name."""
    children: dict[int, list[int]] = defaultdict(list)
    for process in psutil.process_iter(["ppid"]):
        children[process.info["ppid"]].append(process.pid)
    return {name: _sum(_family(pid, children)) for name, pid in roots.items() if pid}


def _family(root: int, children: Mapping[int, list[int]]) -> list[int]:
    found, left = [], [root]
    while left:
        pid = left.pop()
        found.append(pid)
        left += children.get(pid, ())
    return found


def _sum(pids: Iterable[int]) -> tuple[float, float]:
    cpu_s = rss = 0.0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            times = process.cpu_times()
            cpu_s += times.user + times.system
            rss += process.memory_info().rss
        except psutil.Error:
            continue
    return round(cpu_s, 3), round(rss / 2**20, 1)


def read_metrics(text: str) -> dict[str, Any]:
    """Serving's gauges, and each stage's histogram as cumulative counts by upper bound, with its sum of seconds."""
    stages: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for kind, labels, value in _STAGE.findall(text):
        named = dict(_LABEL.findall(labels))
        stages[named["stage"]][named.get("le", "sum") if kind == "bucket" else "sum"] += float(value)
    gauges = {name: sum(map(float, pattern.findall(text))) for name, pattern in _GAUGES.items()}
    return {**gauges, "stages": stages}


def sample(processes: Callable[[], Mapping[str, int]], metrics_urls: Iterable[str]) -> dict[str, Any]:
    """One look."""
    at_s = time.perf_counter()
    idle = psutil.cpu_times()
    found: dict[str, Any] = {
        "at_s": at_s,
        "processes": usage(processes()),
        "idle_s": idle.idle + idle.iowait,
        "serving": None,
    }
    if pages := [page for page in map(_page, metrics_urls) if page]:
        found["serving"] = read_metrics("\n".join(pages))
    return found


def _page(url: str) -> str:
    """Empty when nobody answers: that may be what a test is about."""
    try:
        with urllib.request.urlopen(url, timeout=0.5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError, ValueError):
        return ""


def supervised(settings: PlatformSettings, others: Mapping[str, int]) -> Callable[[], dict[str, int]]:
    """Process ids by name, of what the supervisor of the stack runs now, and of the others, which come first."""
    supervisor = Supervisor(settings)

    def look() -> dict[str, int]:
        try:
            statuses = supervisor.statuses()
        except (OSError, Fault):
            statuses = {}
        return {name: status.pid for name, status in statuses.items()} | dict(others)

    return look


def main() -> None:
    settings = PlatformSettings()
    others = {name: int(pid) for name, _, pid in (each.rpartition("=") for each in sys.argv[2:])}
    look = supervised(settings, others)
    urls = serving_metrics_urls(settings)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Path(sys.argv[1]).open("ab", buffering=0) as file:
        next_s = time.perf_counter()
        while True:
            file.write(orjson.dumps(sample(look, urls)) + b"\n")
            next_s += EVERY_S
            time.sleep(max(0.0, next_s - time.perf_counter()))


if __name__ == "__main__":
    main()
