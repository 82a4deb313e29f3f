"""Finds and ends what a stack started and lost: its supervisor was killed, or a child outlived its parent."""

from __future__ import annotations

from pathlib import Path

import psutil

from infra.local.supervision import STACK_VARIABLE


def find(run_dir: Path) -> list[psutil.Process]:
    """Processes marked as this stack's, by the environment they were started with."""
    return [process for process in psutil.process_iter() if _mark(process) == str(run_dir)]


def end(processes: list[psutil.Process], timeout_s: float = 20) -> None:
    """Asks them to stop, and kills those that have not within the time."""
    for process in processes:
        _signal(process, kill=False)
    _, alive = psutil.wait_procs(processes, timeout_s)
    for process in alive:
        _signal(process, kill=True)
    psutil.wait_procs(alive, 5)


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(STACK_VARIABLE)
    except (psutil.Error, OSError):
        return None


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        if kill:
            process.kill()
        else:
            process.terminate()
    except psutil.NoSuchProcess:
        pass
