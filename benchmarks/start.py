"""Measures a first and a later `make up` in a clean clone, and what everything takes of memory while it runs.

The clone has an empty package cache and an empty jar cache, so the first start downloads everything, as on a new
machine. Memory is the proportional set size summed over all processes (a page that n processes share counts 1/n
in each); the plain sum of resident sizes stands beside it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import figures
from flywheel.contracts.settings import PlatformSettings
from infra.local import places, side_by_side
from infra.local.status import stack_pss_mib, stack_rss_mib

_LIVE_S = 60
_SAMPLE_EVERY_S = 5
_GOALS = {"up_cold_s": "<= 360", "up_warm_s": "<= 60", "rss_total_mib": "<= 4096"}


def main() -> int:
    """The exit code: 0 once the figures are written, 1 when a start fails."""
    place = Path(tempfile.mkdtemp(prefix="flywheel-start-"))
    clone = place / "flywheel"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(places.ROOT), str(clone)], check=True)
    settings = PlatformSettings(data_dir=clone / "data")
    environment = _clean_environment(place, settings.data_dir)
    try:
        cold_s = _timed(clone, "up", environment)
        after_first = _live_memory(settings)
        _timed(clone, "down", environment)
        warm_s = _timed(clone, "up", environment)
        after_second = _live_memory(settings)
    except subprocess.CalledProcessError as failed:
        print(f"{' '.join(failed.cmd)} failed; its data and logs stay in {clone}", file=sys.stderr)
        return 1
    finally:
        subprocess.run(["make", "down"], cwd=clone, env=environment, check=False)
    pss_mib, rss_mib = (max(pair) for pair in zip(after_first, after_second, strict=True))
    path = figures.write(
        "start",
        {
            "up_cold_s": round(cold_s, 1),
            "up_warm_s": round(warm_s, 1),
            "rss_total_mib": round(pss_mib),
            "rss_total_measured_as": "proportional set size, the highest of samples over a minute of live traffic",
            "rss_plain_sum_mib": round(rss_mib),
        },
        _GOALS,
        root=clone,
    )
    print(path.read_text(), end="")
    shutil.rmtree(place)
    return 0


def _clean_environment(place: Path, data_dir: Path) -> dict[str, str]:
    """This environment without settings of other stacks and with caches that are empty."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("FLYWHEEL_", "MAKE", "VIRTUAL_ENV"))
    }
    caches = {"UV_CACHE_DIR": str(place / "uv-cache"), "PIP_NO_CACHE_DIR": "1"}
    return {**kept, **caches, **side_by_side.environment(data_dir)}


def _timed(clone: Path, target: str, environment: Mapping[str, str]) -> float:
    """Wall time of a make target, in seconds; its output is shown."""
    print(f"--- make {target}", flush=True)
    began = time.monotonic()
    subprocess.run(["make", target], cwd=clone, env=dict(environment), check=True)
    return time.monotonic() - began


def _live_memory(settings: PlatformSettings) -> tuple[float, float]:
    """The highest (proportional, plain) memory in MiB over a minute of live traffic."""
    samples = []
    until_s = time.monotonic() + _LIVE_S
    while time.monotonic() < until_s:
        samples.append((stack_pss_mib(settings), stack_rss_mib(settings)))
        time.sleep(_SAMPLE_EVERY_S)
    return max(samples)


if __name__ == "__main__":
    sys.exit(main())
