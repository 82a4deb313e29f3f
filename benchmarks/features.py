"""Measures the feature platform: `make figures-features`.

One stack of its own, everything running but the simulated world, for what needs a stream: freshness, a hot key,
recovery and rebuilding. Then the reads of stored features and the training set, each in a process of its own beside
its peers.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import figures, windowed_read
from benchmarks.figures import FIGURES, ROOT, Figure
from benchmarks.freshness import freshness
from benchmarks.hot_key import hot_key
from benchmarks.recovery import recovery
from flywheel.kernel import catalog
from flywheel.kernel.plan import compile_plan
from infra.local.sandbox import Sandbox, sandbox

_RATES = (500, 1_000, 2_000)
_PARTS = {"features-reads": "benchmarks.reads", "features-training-set": "benchmarks.training_set"}
_REBUILT = re.compile(r"rebuilt ([\d,]+) entities from ([\d,]+) contributions in ([\d.]+) s")

GOALS = {
    "freshness_1000_p99_ms": "<= 150",
    "hot_key_p99_ratio": "<= 2",
    "hot_key_count_error": "== 0",
    "oracle_mismatches": "== 0",
}


def tell(line: str) -> None:
    """Says how far it is."""
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="of each rate that is measured")
    parser.add_argument("--only-stream", action="store_true", help="leave out reads and training set")
    arguments = parser.parse_args()
    measured = dict(streaming(arguments.seconds))
    goals = dict(GOALS)
    for target, module in {} if arguments.only_stream else _PARTS.items():
        tell(f"{module} runs")
        subprocess.run([sys.executable, "-m", module], cwd=ROOT, check=True)
        part = json.loads((FIGURES / f"{target}.json").read_text())
        measured |= part["figures"]
        goals |= part["goals"]
    print(figures.write("features", measured, goals).read_text())
    return 0


def streaming(seconds: float) -> Mapping[str, Figure]:
    """Everything that is measured on a running stack."""
    directory = Path("build/features")
    shutil.rmtree(directory, ignore_errors=True)
    stack = sandbox(directory, world={})
    stack = Sandbox({**stack.environment, "FLYWHEEL_WORLD_ENABLED": "false"})
    tell("starting a stack")
    started = stack.python("infra.local", "up", timeout_s=900)
    if started.returncode:
        raise SystemExit(started.stdout)
    try:
        return _measured(stack, seconds)
    finally:
        stack.python("infra.local", "down", timeout_s=120)


def _measured(stack: Sandbox, seconds: float) -> Mapping[str, Figure]:
    plan, found = compile_plan(catalog.load("fraud")), dict[str, Figure]()
    for rate in _RATES:
        tell(f"freshness at {rate} events a second")
        fresh = freshness(stack.settings, plan, rate, seconds, warm_s=20 if rate == _RATES[0] else 5)
        found |= {
            f"freshness_{rate}_p50_ms": fresh.at(50),
            f"freshness_{rate}_p99_ms": fresh.at(99),
            f"freshness_{rate}_busy_p50_ms": fresh.busy_at(50),
            f"freshness_{rate}_busy_p99_ms": fresh.busy_at(99),
            f"freshness_{rate}_max_ms": fresh.at(100),
            f"freshness_{rate}_probes": len(fresh.taken_ms),
            f"freshness_{rate}_load_behind_s": fresh.load_behind_s,
            f"freshness_{rate}_probes_behind_s": fresh.probes_behind_s,
        }
    tell("hot key")
    found |= hot_key(stack.settings, plan, 1_000, seconds)
    tell("windowed reads")
    found |= windowed_read.run(stack.settings.redis_url)
    found |= recovery(stack.settings, plan, tell)
    tell("rebuilding the store")
    rebuilt = stack.python("infra.local", "rebuild", timeout_s=900)
    numbers = _REBUILT.search(rebuilt.stdout)
    if numbers is None:
        raise SystemExit(rebuilt.stdout)
    entities, contributions, took_s = (float(text.replace(",", "")) for text in numbers.groups())
    return found | {
        "rebuild_entities": entities,
        "rebuild_contributions": contributions,
        "rebuild_s": took_s,
        "rebuild_entities_per_s": entities / took_s,
    }


if __name__ == "__main__":
    sys.exit(main())
