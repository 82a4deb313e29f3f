"""Two checkouts, or two settings, measured in turns on the store, the broker and the models of the stack that runs.

Only serving is started anew, on ports of its own and with a data directory of its own; the stack's own serving stays as
it is. A goes first in one pair and B in the next, so that whatever changes slowly hits both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import figures
from benchmarks.figures import ROOT
from flywheel.contracts.settings import PlatformSettings
from infra.local.ending import end
from infra.local.readiness import HttpReady, comes_up
from infra.local.side_by_side import free_ports
from loadtests.failures import CannotTest
from loadtests.preparation import Order
from loadtests.result import Result

HOME = ROOT / "build" / "loadtests"
_START_TIMEOUT_S, _STOP_TIMEOUT_S = 60.0, 20.0

Test = Callable[[Order, PlatformSettings], Result]


@dataclass(frozen=True)
class Side:
    """What is compared: the code of a checkout under some settings."""

    name: str
    checkout: Path
    told: Mapping[str, str]
    """`FLYWHEEL_*` that are different from the stack's."""


def side_of(name: str, where: str, told: Sequence[str]) -> Side:
    """A side from what a person gave: a directory, a commit or nothing (this checkout), and `NAME=value` settings.

    A commit is checked out below `build/loadtests`. Raises CannotTest.
    """
    settings: dict[str, str] = {}
    for each in told:
        variable, equals, value = each.partition("=")
        if not equals:
            raise CannotTest(f"{each!r} is not of the form NAME=value, such as FLYWHEEL_SERVING_WORKERS=2")
        settings[variable if variable.startswith("FLYWHEEL_") else f"FLYWHEEL_{variable}"] = value
    if not where or where == ".":
        return Side(name, ROOT, settings)
    if Path(where).is_dir():
        if not (Path(where) / "services" / "serving").is_dir():
            raise CannotTest(f"{where} is no checkout of this project: there is no services/serving in it")
        return Side(name, Path(where).resolve(), settings)
    return Side(name, _checked_out(where), settings)


def in_turns(
    sides: tuple[Side, Side], order: Order, settings: PlatformSettings, pairs: int, test: Test
) -> tuple[list[Result], list[Result]]:
    """As many results of each side as there are pairs, all at the rates that follow from A's capacity.

    Raises CannotTest when a side does not start.
    """
    found: dict[str, list[Result]] = {side.name: [] for side in sides}
    for pair in range(pairs):
        for side in sides if pair % 2 == 0 else sides[::-1]:
            order.tell(f"pair {pair + 1} of {pairs}: {side.name} ({_named(side)})")
            with _serving(side, settings) as (process, changed):
                mine = replace(order, others={"serving": process.pid}, checkout=side.checkout)
                result = test(mine, changed)
            # Both are asked the same, or nothing could be compared.
            order = replace(order, capacity_per_s=result.capacity_per_s)
            found[side.name].append(result)
    first, second = sides
    return found[first.name], found[second.name]


@contextmanager
def _serving(side: Side, settings: PlatformSettings) -> Iterator[tuple[subprocess.Popen[bytes], PlatformSettings]]:
    home = HOME / "sides" / side.name
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / "models").symlink_to(settings.model_dir.absolute())
    grpc_port, rest_port, metrics_port = free_ports(3)
    changed = settings.model_copy(
        update={"serving_address": f"127.0.0.1:{grpc_port}", "serving_metrics_port": metrics_port}
    )
    told = {
        "FLYWHEEL_USECASE": settings.usecase,
        "FLYWHEEL_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "FLYWHEEL_REDIS_URL": settings.redis_url,
        "FLYWHEEL_DATA_DIR": str(home),
        "FLYWHEEL_SERVING_ADDRESS": changed.serving_address,
        "FLYWHEEL_SERVING_REST_ADDRESS": f"127.0.0.1:{rest_port}",
        "FLYWHEEL_SERVING_METRICS_PORT": str(metrics_port),
        "OMP_NUM_THREADS": "1",
        **side.told,
    }
    log = home / "serving.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.serving"],
            cwd=side.checkout,
            env={**os.environ, **told},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        if not comes_up(process, HttpReady(f"http://127.0.0.1:{metrics_port}/readyz"), _START_TIMEOUT_S):
            last = (log.read_text().strip().splitlines() or ["it said nothing"])[-1]
            raise CannotTest(f"Serving of {side.name} ({_named(side)}) does not start: {last}\nIts log: {log}")
        yield process, changed
    finally:
        end(process, _STOP_TIMEOUT_S)


def _checked_out(revision: str) -> Path:
    found = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise CannotTest(
            f"{revision!r} is no result (.json), no directory and no commit; results are build/loadtests/*.json"
        )
    commit = found.stdout.strip()
    tree = HOME / "checkouts" / commit[:12]
    if not tree.exists():
        made = subprocess.run(
            ["git", "-C", str(ROOT), "worktree", "add", "--detach", str(tree), commit],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise CannotTest(f"{revision} cannot be checked out to {tree}: {made.stderr.strip()}")
    return tree


def _named(side: Side) -> str:
    settings = " ".join(f"{name.removeprefix('FLYWHEEL_')}={value}" for name, value in side.told.items())
    return " ".join(filter(None, (figures.commit(side.checkout)[:12], settings)))
