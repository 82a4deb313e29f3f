"""Servers as processes: each on its core, in its own environment, seen to the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.figures import ROOT
from infra.local.readiness import Probe, comes_up

HOME = ROOT / "build" / "serving"
SERVER_CORE, OTHERS_CORE = "0", "1"
"""As `taskset` names them."""

_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 20.0


@contextmanager
def running(
    name: str,
    command: list[str],
    ready: Probe,
    *,
    cores: str = SERVER_CORE,
    told: Mapping[str, str] | None = None,
    directory: Path = ROOT,
) -> Iterator[subprocess.Popen[bytes]]:
    """The process on those cores, once it answers; stopped at the end. Its output is below `HOME`.

    Raises RuntimeError when it does not come up.
    """
    log = HOME / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", cores, *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_clean(os.environ) | dict(told or {}),
            cwd=directory,
            start_new_session=True,
        )
    try:
        if not comes_up(process, ready, _START_TIMEOUT_S):
            raise RuntimeError(f"{name} did not start:\n{log.read_text()[-2000:]}")
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the process, gracefully if it will, and whatever it leaves behind."""
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # It leads a session of its own, so nobody else is in its group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def everything_on(cores: str) -> Iterator[None]:
    """This process, and all that it has started, on those cores; afterwards each where it was.

    Threads that began meanwhile go where their process's first thread was.
    """
    before = {thread: os.sched_getaffinity(thread) for thread in _threads()}
    try:
        for thread in before:
            _move(thread, {int(core) for core in cores.split(",")})
        yield
    finally:
        for thread, process in _threads().items():
            if (there := before.get(thread, before.get(process))) is not None:
                _move(thread, there)


def _threads() -> dict[int, int]:
    """Of this process and all below it, each thread and its process, whose first thread has the same number."""
    found, root = dict[int, int](), psutil.Process()
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            found |= {each.id: process.pid for each in process.threads()}
    return found


def _move(thread: int, cores: set[int]) -> None:
    # Pools of threads come and go meanwhile.
    with suppress(ProcessLookupError):
        os.sched_setaffinity(thread, cores)


def checkout(name: str, declaration: str) -> Path:
    """A directory from which `python -m services.serving` knows the use case of that name.

    `declaration`: the import that brings `usecase`.
    """
    tree = HOME / "checkouts" / name
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "usecases" / name).mkdir(parents=True)
    for each in ("flywheel", "services", "infra", "benchmarks", "tests", "usecases/fraud"):
        (tree / each).symlink_to(ROOT / each)
    (tree / "usecases" / "__init__.py").touch()
    (tree / "usecases" / name / "__init__.py").write_text(f"{declaration}\n")
    return tree


def python_of(peer: str) -> str:
    """The interpreter of a peer's environment, made first if it is not there or its list has changed."""
    home, wanted = HOME / "environments" / peer, ROOT / "benchmarks" / "serving_peers" / f"{peer}.txt"
    stamp = home / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        uv = str(Path(sys.executable).with_name("uv"))
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(home)], check=True)
        install = [uv, "pip", "install", "-q", "--no-deps", "--python", str(home / "bin" / "python"), "-r", str(wanted)]
        subprocess.run(install, check=True)
        shutil.copy(wanted, stamp)
    return str(home / "bin" / "python")


def _clean(values: Mapping[str, str]) -> dict[str, str]:
    """Without settings of other stacks, and with one thread for whatever computes."""
    kept = {name: value for name, value in values.items() if not name.startswith(("FLYWHEEL_", "VIRTUAL_ENV"))}
    return kept | {"OMP_NUM_THREADS": "1"}
