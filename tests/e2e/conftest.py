"""One real stack for the end-to-end tests of a file: `make up` on ports of its own, with a small and fast world."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from infra.local import leftovers, places
from infra.local.sandbox import Sandbox, sandbox
from infra.local.supervision import Supervisor

WORLD = {"customers": 600, "history_days": 60, "rate": 100}
"""A day lasts about eleven seconds, so labels mature within little more than a minute."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack that is up. At the end it must come down without leaving anything behind."""
    made = sandbox(tmp_path_factory.mktemp("stack"), world=WORLD)
    started = made.run("make", "up", timeout_s=900)
    if started.returncode:
        made.run("make", "down", timeout_s=120)
        pytest.fail(started.stdout[-5000:])
    print(started.stdout)
    yield made
    stopped = made.run("make", "down", timeout_s=180)
    assert stopped.returncode == 0, stopped.stdout
    assert not Supervisor(made.settings).is_running()
    assert not leftovers.find(places.run_dir(made.settings))
    cleaned = made.run("make", "clean", timeout_s=60)
    assert cleaned.returncode == 0, cleaned.stdout
    assert not made.settings.data_dir.exists()


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]
