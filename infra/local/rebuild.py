"""`make rebuild`: the features service stands aside while its store is filled again; everything else goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

from flywheel.contracts.settings import PlatformSettings
from infra.local import fingerprint, places
from infra.local.console import Console
from infra.local.failures import CannotStart
from infra.local.processes import Process, declaration, environment, processes
from infra.local.readiness import until
from infra.local.supervision import ALIVE, Supervisor
from infra.local.up import of_now

_SERVICE = "features"


def rebuild(settings: PlatformSettings, console: Console) -> None:
    """Fills the online store from the lake. Raises CannotStart when the stack does not run or the filling fails."""
    supervisor = Supervisor(settings)
    if not supervisor.is_running():
        raise CannotStart("Nothing runs whose store could be filled; start with `make up`")
    if names := fingerprint.changed(places.run_dir(settings), of_now(settings)):
        raise CannotStart(
            f"This stack runs with others ({', '.join(names)}): run `make down`, then `make up`, which says "
            "when the store is to be rebuilt"
        )
    service = next(process for process in processes(declaration(settings)) if process.name == _SERVICE)
    console.note(_SERVICE, "stops; ingest and serving go on, with stale values")
    supervisor.end(_SERVICE)
    _await(lambda: supervisor.statuses()[_SERVICE].state not in ALIVE, service.stop_within_s + 15, "did not stop")
    try:
        failed = _run(service, settings)
    finally:
        supervisor.begin(_SERVICE)
    if failed:
        raise CannotStart(f"The store was not filled; the lines above say why, and {places.log_dir(settings)} more")
    console.note(_SERVICE, "starts again")
    _await(service.ready, service.within_s, "is not ready")
    console.plain(f"The store is full and fresh again, after {console.elapsed_s():.0f} s.")


def _run(service: Process, settings: PlatformSettings) -> int:
    command = [sys.executable, "-m", "services.features", "rebuild"]
    return subprocess.run(
        command, cwd=places.ROOT, env=os.environ | environment(service, settings), check=False
    ).returncode


def _await(condition: Callable[[], bool], within_s: float, what: str) -> None:
    if not until(condition, within_s, clock=time.monotonic, pause=lambda: time.sleep(0.1)):
        raise CannotStart(f"The features service {what} within {within_s:.0f} s; see `make logs P={_SERVICE}`")
