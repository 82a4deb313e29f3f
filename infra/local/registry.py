"""`mlflow`: MLflow's own page over the stack's registry, when somebody wants it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from flywheel.contracts.settings import PlatformSettings
from infra.local import places
from infra.local.failures import CannotStart
from infra.local.log_lines import telling_line
from infra.local.ports import is_taken
from infra.local.readiness import HttpReady, until
from infra.local.supervision import log_file

_WITHIN_S = 120.0
_PAUSE_S = 0.2
_END_TIMEOUT_S = 10
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Command = Callable[[PlatformSettings, int], Sequence[str]]


def mlflow_command(settings: PlatformSettings, port: int) -> Sequence[str]:
    """MLflow's server over the registry, on that port of this machine."""
    arguments = ["server", "--backend-store-uri", settings.mlflow_store, "--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, "-m", "mlflow", *arguments, "--workers", "1"]


def open_registry(settings: PlatformSettings, port: int, command: Command = mlflow_command) -> None:
    """Serves the registry's page until Ctrl-C or SIGTERM, and tells its address once it answers.

    Raises CannotStart when the port is taken or the server ends by itself.
    """
    if is_taken(port):
        raise CannotStart(f"Port {port} is taken; name another: make mlflow PORT={port + 1}")
    for number in _ENDINGS:
        signal.signal(number, signal.default_int_handler)
    log = log_file(settings, "mlflow")
    with contextlib.suppress(KeyboardInterrupt):
        print(f"MLflow starts … (its log is {log})", flush=True)
        with _running(command(settings, port), log) as server:
            url = f"http://127.0.0.1:{port}/"
            _wait(server, HttpReady(url), log)
            print(f"MLflow is open at {url} (Ctrl-C ends it)", flush=True)
            raise CannotStart(f"MLflow ended with exit code {server.wait()}; its log is {log}")


def _wait(server: subprocess.Popen[bytes], ready: HttpReady, log: Path) -> None:
    over = until(
        lambda: server.poll() is not None or ready(),
        _WITHIN_S,
        clock=time.monotonic,
        pause=lambda: time.sleep(_PAUSE_S),
    )
    if not over:
        raise CannotStart(f"MLflow does not answer after {_WITHIN_S:.0f} s; its log is {log}")
    if server.poll() is not None:
        raise CannotStart(f'MLflow ended with exit code {server.returncode}: "{telling_line(log)}"; its log is {log}')


@contextlib.contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The server in a session of its own: the terminal's Ctrl-C reaches only us, and we end all it started."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            cwd=places.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield server
    finally:
        for number in _ENDINGS:
            signal.signal(number, signal.SIG_IGN)
        _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(_END_TIMEOUT_S)
    # Whoever of its group is still there did not heed the signal, or was orphaned by it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
