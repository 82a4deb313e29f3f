"""A container's health check believes what the process says of itself."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flywheel.adapters.metrics_server import MetricsServer
from infra.images import healthy


@pytest.fixture
def answer() -> list[tuple[bool, str]]:
    return [(True, "both streams run")]


@pytest.fixture
def address(answer: list[tuple[bool, str]]) -> Iterator[str]:
    server = MetricsServer(0, lambda: answer[-1])
    server.start()
    yield f"127.0.0.1:{server.port}"
    server.close()


def test_a_ready_process_is_well(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert healthy.main(f"{address}/readyz") == 0
    assert "both streams run" in capsys.readouterr().out


def test_one_that_is_not_ready_is_not_and_says_why(
    address: str, answer: list[tuple[bool, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    answer.append((False, "tiles are behind"))
    assert healthy.main(f"{address}/readyz") == 1
    assert "tiles are behind" in capsys.readouterr().out


def test_a_page_that_is_not_there_is_no_health(address: str) -> None:
    assert healthy.main(f"{address}/nowhere") == 1


def test_nobody_is_not_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    assert healthy.main(f"127.0.0.1:{port}/readyz") == 1


def test_whoever_speaks_otherwise_or_says_nothing_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    for said in ("", "220 mail.example ESMTP\r\n", "HTTP/1.0 503 Service Unavailable\r\n\r\nHTTP/1.0 200 OK"):
        monkeypatch.setattr(healthy, "ask", lambda *_, said=said: said)
        assert healthy.main("127.0.0.1:1/readyz") == 1


def test_it_needs_no_installed_package(address: str) -> None:
    command = [sys.executable, "-ISB", str(Path(healthy.__file__)), f"{address}/readyz"]
    assert subprocess.run(command, timeout=10, check=False).returncode == 0
