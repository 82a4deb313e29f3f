"""`up`: from whatever state the stack is in to everything running and ready."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flywheel.adapters.file_model_store import FileModelStore
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel import catalog
from infra.local import fingerprint, jars, leftovers, places, ports, prometheus, restarts, settings_check
from infra.local.console import Console, table
from infra.local.failures import CannotStart
from infra.local.java import java
from infra.local.launch import Launch
from infra.local.models import told_when_undeployed
from infra.local.processes import Process, Step, declaration, processes
from infra.local.supervision import ALIVE, Supervisor

_PHASES = 3


def up(settings: PlatformSettings, console: Console, steps: tuple[Step, ...] | None = None) -> None:
    """Starts what does not run and waits until all is ready. Raises CannotStart with the way out."""
    settings_check.check(settings)
    for sentence in settings_check.unknown(settings_check.declared(settings)):
        console.note("settings", sentence)
    steps = declaration(settings) if steps is None else steps
    places.run_dir(settings).mkdir(parents=True, exist_ok=True)
    places.log_dir(settings).mkdir(parents=True, exist_ok=True)
    with _alone(places.run_dir(settings) / "up.lock"):
        console.phase(1, _PHASES, "Java")
        console.note("java", java())
        console.phase(2, _PHASES, "Jars of the broker and of Spark's Kafka connector")
        console.note("jars", f"{jars.ensure(lambda told: console.note('jars', told))} in place, digests right")
        console.phase(3, _PHASES, "Engines, services, history, first model, live traffic")
        supervisor = Supervisor(settings)
        _prepare(settings, supervisor, processes(steps), console)
        Launch(settings, steps, supervisor, console).run()
    console.plain(summary(settings, processes(steps), console.elapsed_s()))


def _prepare(
    settings: PlatformSettings, supervisor: Supervisor, declared: tuple[Process, ...], console: Console
) -> None:
    run_dir = places.run_dir(settings)
    current = of_now(settings)
    if supervisor.is_running():
        if names := fingerprint.changed(run_dir, current):
            raise CannotStart(
                f"This stack runs with other settings ({', '.join(names)}); run `make down` first, then `make up`"
            )
        if not supervisor.declares(declared):
            raise CannotStart(
                "This stack was started by another version of the code; run `make down` first, then `make up`"
            )
        statuses = supervisor.statuses()
        ports.check_free(process for process in declared if statuses[process.name].state not in ALIVE)
        return
    if lost := leftovers.find(run_dir):
        console.note(
            "leftovers", f"{len(lost)} processes of an earlier start lost their supervisor; they are ended first"
        )
        leftovers.end(lost)
    ports.check_free(declared)
    restarts.reset(run_dir)
    supervisor.start(declared)
    fingerprint.remember(run_dir, current)


def of_now(settings: PlatformSettings) -> dict[str, str]:
    """The fingerprint of what a start would run. Raises CannotStart for a wrong declaration."""
    return fingerprint.of(os.environ, _dotenv(), settings_check.declared(settings))


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart("Another `make up` of this stack is under way; wait for it or stop it") from None
        yield


def _dotenv() -> str:
    file = places.ROOT / ".env"
    return file.read_text() if file.exists() else ""


def _over_http(settings: PlatformSettings) -> str:
    address = settings.serving_rest_address
    return f"\n  Ask (HTTP)       http://{address}/docs" if address else ""


def summary(settings: PlatformSettings, declared: tuple[Process, ...], took_s: float) -> str:
    """What runs where and what to do next; first of all, when no model is deployed, that the rule answers and why."""
    undeployed = told_when_undeployed(FileModelStore(settings.model_dir), catalog.load(settings.usecase))
    models = f"\n{undeployed}\n" if undeployed else ""
    rows = [(process.name, process.address, places.log_dir(settings) / f"{process.name}.log") for process in declared]
    usecase = settings.usecase
    return f"""
Everything runs, after {took_s:.0f} s.
{models}
{table(("PROCESS", "ADDRESS", "LOG"), rows)}

  Console          {settings.monitor_url}
  Send events      {settings.ingest_url}/docs
  Ask (gRPC)       {settings.serving_address}, or: make decide
                   .venv/bin/python -m flywheel decide {usecase} --help{_over_http(settings)}
  Models (MLflow)  make mlflow
  Prometheus       {prometheus.told(settings)}
  State, logs      make status   make logs P=serving
  Stop             make down     (data stays; make clean removes it)
"""
