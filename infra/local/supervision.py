"""Lets supervisord watch over the processes: writes its configuration, starts it, and asks it."""

from __future__ import annotations

import hashlib
import os
import pwd
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, cast
from xmlrpc.client import Fault, ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from flywheel.contracts.settings import PlatformSettings
from infra.local import places
from infra.local.failures import CannotStart
from infra.local.processes import Process, environment
from infra.local.readiness import until

STACK_VARIABLE = "FLYWHEEL_STACK"
"""Marks every process of a stack with the stack's run directory."""

# Each waits a second longer than the one before: five days, rather than minutes, of a broker that is away.
_START_RETRIES = 1_000
_LONGEST_SOCKET_PATH = 100


class State(IntEnum):
    """What supervisord says of a process."""

    STOPPED = 0
    STARTING = 10
    RUNNING = 20
    BACKOFF = 30
    STOPPING = 40
    EXITED = 100
    FATAL = 200
    UNKNOWN = 1000


ALIVE = frozenset({State.STARTING, State.RUNNING})
DEAD = frozenset({State.BACKOFF, State.EXITED, State.FATAL, State.UNKNOWN})


@dataclass(frozen=True)
class Status:
    """A process as supervisord sees it. `pid` is 0 and `uptime_s` 0 unless it is alive."""

    state: State
    pid: int
    uptime_s: float


class Supervisor:
    """The supervisord of one stack, which may not be running."""

    def __init__(self, settings: PlatformSettings) -> None:
        self._settings = settings
        self._run_dir = places.run_dir(settings)
        self._socket = socket_path(self._run_dir)
        self._file = self._run_dir / "supervisord.conf"

    def is_running(self) -> bool:
        """Whether it answers."""
        try:
            self._call("getState")
        except (OSError, Fault):
            return False
        return True

    def pid(self) -> int:
        """Its process id; it must be running."""
        return cast(int, self._call("getPID"))

    def start(self, processes: Iterable[Process]) -> None:
        """Starts supervisord, none of its processes. Raises CannotStart if it does not answer."""
        self._run_dir.mkdir(parents=True, exist_ok=True)
        places.log_dir(self._settings).mkdir(parents=True, exist_ok=True)
        self._file.write_text(configuration(self._settings, processes))
        done = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._file)],
            cwd=places.ROOT,
            env={**os.environ, STACK_VARIABLE: str(self._run_dir)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        answers = done.returncode == 0 and until(
            self.is_running, 15, clock=time.monotonic, pause=lambda: time.sleep(0.05)
        )
        if not answers:
            told = [*(done.stderr or done.stdout).strip().splitlines(), "no reason given"]
            raise CannotStart(f"The supervisor does not start ({told[0]}); see {self._run_dir / 'supervisord.log'}")

    def declares(self, processes: Iterable[Process]) -> bool:
        """Whether it was started with just these processes, as they are declared now."""
        return self._file.exists() and self._file.read_text() == configuration(self._settings, processes)

    def statuses(self) -> dict[str, Status]:
        """Every declared process by name."""
        rows = cast(list[dict[str, Any]], self._call("getAllProcessInfo"))
        return {
            str(row["name"]): Status(
                State(row["state"]), int(row["pid"]), max(row["now"] - row["start"], 0) if row["pid"] else 0
            )
            for row in rows
        }

    def begin(self, name: str) -> None:
        """Starts a process and does not wait; nothing changes for one that lives."""
        self._ask("startProcess", name)

    def end(self, name: str) -> None:
        """Tells a process to stop and does not wait."""
        self._ask("stopProcess", name)

    def shut_down(self) -> None:
        """Ends supervisord, and with it whatever it still runs."""
        self._call("shutdown")

    def _ask(self, method: str, name: str) -> None:
        try:
            self._call(method, name, False)
        except Fault as fault:
            # Both mean that what is asked for is already so.
            if not fault.faultString.startswith(("ALREADY_STARTED", "NOT_RUNNING", "SPAWN_ERROR")):
                raise

    def _call(self, method: str, *arguments: object) -> object:
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        with ServerProxy("http://127.0.0.1", transport=transport) as remote:
            return getattr(remote.supervisor, method)(*arguments)


def configuration(settings: PlatformSettings, processes: Iterable[Process]) -> str:
    """supervisord's configuration: nothing starts by itself, everything that dies is started again with back-off."""
    run_dir = places.run_dir(settings)
    head: dict[str, dict[str, object]] = {
        "unix_http_server": {"file": socket_path(run_dir), "chmod": "0700"},
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
        "supervisord": {
            "logfile": run_dir / "supervisord.log",
            "pidfile": run_dir / "supervisord.pid",
            "childlogdir": run_dir,
            "directory": places.ROOT,
            "identifier": "flywheel",
            "minfds": 1024,
            **({"user": pwd.getpwuid(0).pw_name} if os.getuid() == 0 else {}),
        },
        "eventlistener:restarts": {
            "command": shlex.join([sys.executable, "-m", "infra.local.restarts", str(run_dir)]),
            "events": "PROCESS_STATE_STARTING",
            "stderr_logfile": run_dir / "restarts.log",
            "autorestart": "true",
        },
    }
    sections = {**head, **{f"program:{process.name}": _program(settings, process) for process in processes}}
    return "\n".join(_section(name, values) for name, values in sections.items())


def socket_path(run_dir: Path) -> Path:
    """Where supervisord listens: in the run directory, unless that is too long for a socket's name."""
    plain = run_dir / "supervisor.sock"
    if len(str(plain)) <= _LONGEST_SOCKET_PATH:
        return plain
    digest = hashlib.sha256(str(run_dir).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"flywheel-{os.getuid()}-{digest}.sock"


def _program(settings: PlatformSettings, process: Process) -> dict[str, object]:
    return {
        "command": shlex.join(_ranked(process)),
        "environment": _variables(environment(process, settings)),
        "autostart": "false",
        "autorestart": "true",
        "startsecs": process.fails_within_s,
        "startretries": _START_RETRIES,
        "stopwaitsecs": process.stop_within_s,
        # The process stops its children itself; whatever outlives its time is killed with them.
        "stopasgroup": "false",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": log_file(settings, process.name),
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": 2,
    }


def _ranked(process: Process) -> tuple[str, ...]:
    return ("nice", "-n", str(process.niceness), *process.command) if process.niceness else process.command


def log_file(settings: PlatformSettings, name: str) -> Path:
    """Where the output of a process or task goes."""
    return places.log_dir(settings) / f"{name}.log"


def _section(name: str, values: Mapping[str, object]) -> str:
    lines = (f"{key}={str(value).replace('%', '%%')}\n" for key, value in values.items())
    return f"[{name}]\n{''.join(lines)}"


def _variables(values: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in values.items())
