"""The registry's page tells its address once it answers, and ends without a word."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from flywheel.contracts.settings import PlatformSettings
from infra.local.failures import CannotStart
from infra.local.ports import is_taken
from infra.local.registry import open_registry

HOST = """
import sys
from pathlib import Path
from flywheel.contracts.settings import PlatformSettings
from infra.local.registry import open_registry

server = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", sys.argv[1]]
open_registry(PlatformSettings(data_dir=Path(sys.argv[2])), int(sys.argv[1]), lambda *_: server)
"""


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_address_is_told_when_it_answers_and_a_signal_ends_it_quietly(
    number: signal.Signals, free_port: int, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOST, str(free_port), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as host:
        try:
            assert host.stdout is not None
            assert host.stdout.readline().startswith("MLflow starts …")
            url = f"http://127.0.0.1:{free_port}/"
            assert url in host.stdout.readline()
            with urlopen(url, timeout=5) as answer:
                assert answer.status == 200
            # As a terminal does: the whole foreground group gets it.
            os.killpg(host.pid, number)
            assert host.communicate(timeout=15) == ("", "")
            assert host.returncode == 0
            assert not is_taken(free_port)
        finally:
            host.kill()


def test_a_server_that_ends_by_itself_is_told_with_its_last_words(
    free_port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    command = [sys.executable, "-c", "raise SystemExit('error: no such store')"]
    try:
        with pytest.raises(CannotStart, match=r'exit code 1: "error: no such store"'):
            open_registry(PlatformSettings(data_dir=tmp_path), free_port, lambda *_: command)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert "open at" not in capsys.readouterr().out


def test_a_taken_port_names_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CannotStart, match=rf"make mlflow PORT={port + 1}$"):
            open_registry(PlatformSettings(data_dir=tmp_path), port)
