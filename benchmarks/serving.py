"""Measures serving beside its alternatives: `make figures-serving`; a part alone: `ARGS="--only overload"`.

The server that is measured has core 0 for itself; the load generator (this process), Redis and the broker share core 1.
Every part adds its figures to one file, each with the commit that it was measured at.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping

from benchmarks import (
    figures,
    serving_data_plane,
    serving_overload,
    serving_ranking,
    serving_rates,
    serving_refusals,
    serving_restarts,
    serving_stages,
    serving_workers,
)
from benchmarks.figures import Figure
from benchmarks.serving_bench import NotMeasured, Pace, tell
from benchmarks.serving_processes import OTHERS_CORE
from benchmarks.serving_scene import Scene, running_scene

TARGET = "serving"
Part = Callable[[Scene, Pace], dict[str, Figure]]

PARTS: dict[str, Part] = {
    "rates": serving_rates.measure,
    "overload": serving_overload.measure,
    "refusals": serving_refusals.measure,
    "data-plane": serving_data_plane.measure,
    "ranking": serving_ranking.measure,
    "swaps": serving_restarts.swaps,
    "rolling": serving_restarts.rolling,
    "workers": serving_workers.measure,
    "stages": serving_stages.measure,
}
GOALS = {
    **serving_rates.GOALS,
    **serving_overload.GOALS,
    **serving_data_plane.GOALS,
    **serving_ranking.GOALS,
    **serving_restarts.GOALS,
    **serving_workers.GOALS,
}


def main() -> int:
    """Measures the chosen parts; 1 when one of them could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts alone")
    parser.add_argument("--servers", nargs="+", choices=serving_rates.STARTS, help="of the rates, these servers alone")
    parser.add_argument("--quick", action="store_true", help="a third of the time of each run, and no figures written")
    parser.add_argument(
        "--pace", type=float, default=1.0, help="this share of the time of each run; the figures say so"
    )
    chosen = parser.parse_args()
    # Told to end, it ends what it started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.sched_setaffinity(0, {int(OTHERS_CORE)})
    pace, missing = Pace(0.3 if chosen.quick else chosen.pace), []
    with running_scene() as scene:
        for name in chosen.only:
            tell(f"part {name}")
            began_s = time.monotonic()
            try:
                found = _measured(name, scene, pace, chosen.servers)
            except (NotMeasured, RuntimeError, AssertionError, OSError) as reason:
                tell(f"part {name} is NOT MEASURED: {reason}")
                missing.append(name)
                continue
            for figure, value in found.items():
                print(f"  {figure:44} {value}  {GOALS.get(figure, '')}")
            tell(f"part {name} took {time.monotonic() - began_s:.0f} s")
            if not chosen.quick:
                keep(name, {**found, f"{name.replace('-', '_')}_pace": pace.share})
    if missing:
        print(f"not measured: {', '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


def _measured(name: str, scene: Scene, pace: Pace, servers: list[str] | None) -> dict[str, Figure]:
    if name == "rates" and servers:
        return serving_rates.measure(scene, pace, servers)
    return PARTS[name](scene, pace)


def keep(part: str, found: Mapping[str, Figure]) -> None:
    """Adds a part's figures to those of the others; what is held against a goal stands first."""
    path = figures.FIGURES / f"{TARGET}.json"
    known: dict[str, Figure] = json.loads(path.read_text())["figures"] if path.exists() else {}
    known |= {**found, f"{part.replace('-', '_')}_commit": figures.commit()[:12]}
    figures.write(TARGET, {**dict.fromkeys(GOALS), **known}, GOALS, figures.FIGURES)


if __name__ == "__main__":
    sys.exit(main())
