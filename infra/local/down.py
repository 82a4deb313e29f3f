"""`down` and `clean`: stops exactly what the stack started, and removes what it kept."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from flywheel.contracts.settings import PlatformSettings
from infra.local import leftovers, places
from infra.local.console import Console
from infra.local.failures import CannotStart
from infra.local.processes import Process, Step, declaration, processes
from infra.local.readiness import until
from infra.local.supervision import ALIVE, State, Supervisor

_SHUTDOWN_TIMEOUT_S = 30


def down(settings: PlatformSettings, console: Console, steps: tuple[Step, ...] | None = None) -> None:
    """Stops the processes, those that depend on others first, and waits until all are gone. Data stays."""
    steps = declaration(settings) if steps is None else steps
    supervisor = Supervisor(settings)
    run_dir = places.run_dir(settings)
    if supervisor.is_running():
        _stop_all(supervisor, steps, console)
        supervisor.shut_down()
        until(lambda: not supervisor.is_running(), _SHUTDOWN_TIMEOUT_S, clock=time.monotonic, pause=_pause)
        # It answers nobody some moments before it ends.
        until(lambda: not leftovers.find(run_dir), 5, clock=time.monotonic, pause=_pause)
    elif not leftovers.find(run_dir):
        console.plain("Nothing runs.")
        return
    if lost := leftovers.find(run_dir):
        console.note("leftovers", f"{len(lost)} processes are ended")
        leftovers.end(lost)
    console.plain(f"Everything is stopped; data stays in {settings.data_dir.absolute()}.")


def clean(settings: PlatformSettings, console: Console) -> None:
    """Stops the stack and removes its data directory. Raises CannotStart when that holds more than a stack's data."""
    directory = settings.data_dir.absolute()
    refuse_precious(directory)
    down(settings, console)
    if not directory.exists():
        console.plain(f"{directory} is not there; nothing to remove.")
        return
    size_mib = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 2**20
    names = ", ".join(sorted(path.name for path in directory.iterdir()))
    shutil.rmtree(directory)
    console.plain(f"Removed {directory} ({size_mib:,.0f} MiB: {names or 'empty'}).")


def refuse_precious(directory: Path) -> None:
    """Raises CannotStart for a directory that holds the checkout, a home, or something no stack made."""
    if directory in (places.ROOT, *places.ROOT.parents, Path.home(), *Path.home().parents):
        raise CannotStart(f"FLYWHEEL_DATA_DIR is {directory}, which holds more than data; nothing was removed")
    if directory.exists() and any(directory.iterdir()) and not (directory / "run").is_dir():
        raise CannotStart(f"{directory} does not look like a stack's data directory; nothing was removed")


def layers(steps: tuple[Step, ...]) -> list[list[Process]]:
    """Processes in the order in which to stop them: each layer only after those that depend on it."""
    depth: dict[str, int] = {}
    for step in steps:
        depth[step.name] = 1 + max((depth[name] for name in step.after), default=0)
    found = processes(steps)
    levels = sorted({depth[process.name] for process in found}, reverse=True)
    return [[process for process in found if depth[process.name] == level] for level in levels]


def _stop_all(supervisor: Supervisor, steps: tuple[Step, ...], console: Console) -> None:
    for layer in layers(steps):
        statuses = supervisor.statuses()
        names = [p.name for p in layer if p.name in statuses and statuses[p.name].state in ALIVE | {State.BACKOFF}]
        for name in names:
            supervisor.end(name)
        longest_s = max(process.stop_within_s for process in layer) + 5

        def gone(names: list[str] = names) -> bool:
            now = supervisor.statuses()
            return all(now[name].state not in ALIVE | {State.STOPPING, State.BACKOFF} for name in names)

        stopped = until(gone, longest_s, clock=time.monotonic, pause=_pause)
        for name in names:
            console.note(name, "stopped" if stopped else "does not stop; it will be killed")


def _pause() -> None:
    time.sleep(0.1)
