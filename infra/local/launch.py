"""Starts the declared steps, each as soon as those it waits for are done, and stops at the first that dies."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flywheel.contracts.settings import PlatformSettings
from infra.local import places
from infra.local.console import Console
from infra.local.ending import end
from infra.local.failures import CannotStart
from infra.local.log_lines import last_line, newest_event, telling_line
from infra.local.processes import Process, Step, Task, environment
from infra.local.supervision import ALIVE, DEAD, STACK_VARIABLE, State, Status, log_file

_REPORT_EVERY_S = 5.0
_PAUSE_S = 0.1
_END_TIMEOUT_S = 10


class Keeper(Protocol):
    """Keeps processes running; supervisord does."""

    def statuses(self) -> dict[str, Status]:
        """Every declared process by name."""

    def begin(self, name: str) -> None:
        """Starts a process and does not wait."""

    def end(self, name: str) -> None:
        """Tells a process to stop and does not wait."""


class RunningTask(Protocol):
    """A task under way."""

    def poll(self) -> int | None:
        """Its exit code, once it ended."""

    def end(self) -> None:
        """Ends it and returns when it is gone."""


@dataclass
class _Started:
    step: Step
    at_s: float
    log: Path
    log_from: int
    told_by: dict[str, tuple[Path, int]]
    task: RunningTask | None = None
    reported_s: float = 0.0


class Launch:
    """One start of a stack. `run` returns when every step is done and raises CannotStart when one cannot be."""

    def __init__(
        self,
        settings: PlatformSettings,
        steps: Sequence[Step],
        keeper: Keeper,
        console: Console,
        *,
        spawn: Callable[[Task], RunningTask] | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[], None] = lambda: time.sleep(_PAUSE_S),
    ) -> None:
        self._settings = settings
        self._waiting = list(steps)
        self._total = len(steps)
        self._keeper = keeper
        self._console = console
        self._spawn = spawn or (lambda task: SpawnedTask(task, settings))
        self._clock = clock
        self._pause = pause
        self._started: dict[str, _Started] = {}
        self._done: set[str] = set()

    def run(self) -> None:
        """Starts everything. Tasks still running are ended when it fails; processes stay as they are."""
        try:
            while len(self._done) < self._total:
                statuses = self._keeper.statuses()
                self._begin_those_that_can(statuses)
                for started in list(self._started.values()):
                    self._look_at(started, self._keeper.statuses())
                self._pause()
        finally:
            for started in self._started.values():
                if started.task is not None:
                    started.task.end()

    def _begin_those_that_can(self, statuses: dict[str, Status]) -> None:
        for step in [step for step in self._waiting if self._done.issuperset(step.after)]:
            self._waiting.remove(step)
            workers = step.told_by if isinstance(step, Task) else ()
            started = _Started(
                step,
                self._clock(),
                *self._log_from_now(step.name),
                {name: self._log_from_now(name) for name in workers},
                reported_s=self._clock(),
            )
            if isinstance(step, Process):
                self._begin_process(step, statuses[step.name])
            elif step.needed():
                started.task = self._spawn(step)
                self._console.note(step.name, "runs")
            else:
                self._finish(step.name, "was done before")
                continue
            self._started[step.name] = started

    def _log_from_now(self, name: str) -> tuple[Path, int]:
        log = log_file(self._settings, name)
        return log, log.stat().st_size if log.exists() else 0

    def _begin_process(self, process: Process, status: Status) -> None:
        if status.state in ALIVE:
            return
        if status.state == State.BACKOFF:
            self._keeper.end(process.name)
        self._keeper.begin(process.name)
        self._console.note(process.name, f"starts at {process.address}")

    def _look_at(self, started: _Started, statuses: dict[str, Status]) -> None:
        step = started.step
        took_s = self._clock() - started.at_s
        if isinstance(step, Process):
            self._look_at_process(started, step, statuses[step.name], took_s)
        else:
            self._look_at_task(started, took_s)
        if step.name in self._started:
            self._check_time(started, took_s)

    def _look_at_process(self, started: _Started, process: Process, status: Status, took_s: float) -> None:
        if status.state in DEAD:
            # Tried again and again, it would only repeat what the log already says.
            self._keeper.end(process.name)
            raise CannotStart(_sentence(started, "died while it started"))
        if status.state in ALIVE and process.ready():
            self._finish(process.name, f"ready after {took_s:.1f} s")

    def _look_at_task(self, started: _Started, took_s: float) -> None:
        assert started.task is not None
        code = started.task.poll()
        if code == 0:
            self._finish(started.step.name, f"done after {took_s:.1f} s  {last_line(started.log, started.log_from)}")
        elif code is not None:
            raise CannotStart(_sentence(started, f"ended with exit code {code}"))

    def _check_time(self, started: _Started, took_s: float) -> None:
        step = started.step
        if took_s > step.within_s:
            what = f"is not ready by {step.ready}" if isinstance(step, Process) else "is not done"
            raise CannotStart(_sentence(started, f"{what} after {step.within_s:.0f} s"))
        if self._clock() - started.reported_s >= _REPORT_EVERY_S:
            self._report(started, took_s)

    def _report(self, started: _Started, took_s: float) -> None:
        started.reported_s = self._clock()
        line = _progress(started)
        limit = f"{took_s:.0f} s of at most {started.step.within_s:.0f} s"
        shown = f"  {line[:100]}" if line else ""
        self._console.note(started.step.name, f"{limit}{shown}")

    def _finish(self, name: str, text: str) -> None:
        self._started.pop(name, None)
        self._done.add(name)
        self._console.step(len(self._done), self._total, name, text)


class SpawnedTask:
    """A task as a process of its own, its output in its log."""

    def __init__(self, task: Task, settings: PlatformSettings) -> None:
        own = {**environment(task, settings), STACK_VARIABLE: str(places.run_dir(settings))}
        with log_file(settings, task.name).open("ab") as log:
            self._process = subprocess.Popen(
                task.command,
                cwd=places.ROOT,
                env={**os.environ, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def poll(self) -> int | None:
        return self._process.poll()

    def end(self) -> None:
        end(self._process, _END_TIMEOUT_S)


def _progress(started: _Started) -> str:
    """How far a step is. What a process answers says more than what it wrote last, and a task's work is others'."""
    if isinstance(started.step, Process):
        return started.step.ready.detail() or newest_event(started.log, started.log_from)[1]
    told = [(*newest_event(*log), name) for name, log in started.told_by.items()]
    at, text, name = max(told, default=("", "", ""))
    return f"{name}: {text}" if at else last_line(started.log, started.log_from)


def _sentence(started: _Started, what: str) -> str:
    line = telling_line(started.log, started.log_from)
    said = f': "{line[:300]}"' if line else ""
    return (
        f"{started.step.name} {what}{said} — the whole log is {started.log}; mend it and run `make up` again, "
        "which goes on from here (`make down` stops what is up)"
    )
