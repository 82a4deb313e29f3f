"""A stack of tiny processes under the real supervisor: started, killed, brought back, stopped."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flywheel.contracts.settings import PlatformSettings
from infra.local import leftovers, places, restarts
from infra.local.console import Console
from infra.local.down import down
from infra.local.failures import CannotStart
from infra.local.processes import Process, Step, Task
from infra.local.readiness import HttpReady, until
from infra.local.supervision import State, Supervisor
from infra.local.up import up
from tests.engines import free_port

pytestmark = pytest.mark.engine

_SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Stack:
    """Two servers and a task between them, below a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.settings = PlatformSettings(data_dir=directory)
        self.marker = directory / "task-ran"
        self.supervisor = Supervisor(self.settings)
        self.lines: list[str] = []
        self.steps: tuple[Step, ...] = (
            _server(directory.parent, "first"),
            Task("task", (sys.executable, "-c", f"open({str(self.marker)!r}, 'a').write('x')"), ("first",), 20),
            _server(directory.parent, "second", "task"),
        )

    def up(self) -> None:
        up(self.settings, Console(self.lines.append), self.steps)

    def down(self) -> None:
        down(self.settings, Console(self.lines.append), self.steps)

    def run_dir(self) -> Path:
        return places.run_dir(self.settings)

    def pid(self, name: str) -> int:
        return self.supervisor.statuses()[name].pid


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "data")
    yield stack
    stack.down()
    assert leftovers.find(stack.run_dir()) == []


def test_up_starts_all_in_order_and_again_changes_nothing(stack: Stack) -> None:
    stack.up()
    assert stack.marker.read_text() == "x"
    first, second = stack.pid("first"), stack.pid("second")
    stack.up()
    assert (stack.pid("first"), stack.pid("second")) == (first, second)
    assert restarts.read(stack.run_dir()) == {}


def test_a_killed_process_comes_back_and_is_counted(stack: Stack) -> None:
    stack.up()
    before = stack.pid("first")
    os.kill(before, signal.SIGKILL)
    _await(lambda: restarts.read(stack.run_dir()) == {"first": 1})
    ready = stack.steps[0]
    assert isinstance(ready, Process)
    _await(ready.ready)
    assert stack.pid("first") not in (0, before)


def test_a_process_that_dies_at_its_start_is_named_and_left_alone(stack: Stack) -> None:
    broken = (sys.executable, "-c", "raise SystemExit('fatal: no licence')")
    stack.steps = (*stack.steps, Process("broken", broken, ("first",), HttpReady("http://127.0.0.1:1/"), 20, "", {}))
    with pytest.raises(CannotStart, match='broken died while it started: "fatal: no licence"'):
        stack.up()
    _await(lambda: stack.supervisor.statuses()["broken"].state in {State.STOPPED, State.EXITED, State.FATAL})


def test_a_port_held_by_another_program_stops_the_start_before_anything_runs(stack: Stack, tmp_path: Path) -> None:
    other = Stack(tmp_path / "other")
    other.up()
    stack.steps = other.steps
    try:
        with pytest.raises(CannotStart, match=r"Port \d+ \(first\) is taken by another program"):
            stack.up()
        assert not stack.supervisor.is_running()
    finally:
        other.down()


def test_down_leaves_other_stacks_alone(stack: Stack, tmp_path: Path) -> None:
    other = Stack(tmp_path / "other")
    other.up()
    try:
        stack.up()
        stack.down()
        assert other.supervisor.statuses()["second"].state in {State.STARTING, State.RUNNING}
    finally:
        other.down()


def test_processes_that_lost_their_supervisor_are_found_and_replaced(stack: Stack) -> None:
    stack.up()
    lost = stack.pid("first")
    os.kill(stack.supervisor.pid(), signal.SIGKILL)
    _await(lambda: not stack.supervisor.is_running())
    stack.up()
    assert stack.pid("first") not in (0, lost)
    assert any("lost their supervisor" in line for line in stack.lines)


def test_other_settings_are_not_half_applied(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.up()
    monkeypatch.setenv("FLYWHEEL_WORLD_RATE", "77")
    with pytest.raises(CannotStart, match=r"other settings \(FLYWHEEL_WORLD_RATE\); run `make down` first"):
        stack.up()


def _server(directory: Path, name: str, *after: str) -> Process:
    port = free_port()
    script = directory / "server.py"
    script.write_text(_SERVER)
    command = (sys.executable, str(script), str(port))
    ready = HttpReady(f"http://127.0.0.1:{port}/readyz")
    return Process(name, command, after, ready, 20, f"127.0.0.1:{port}", {"FLYWHEEL_TEST_PORT": port})


def _await(condition: Callable[[], bool]) -> None:
    assert until(condition, 20, clock=time.monotonic, pause=lambda: time.sleep(0.05))
