"""A process is asked whether it is ready, and what it waits for."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from flywheel.adapters.metrics_server import MetricsServer
from infra.local.readiness import HttpReady, TcpOpen


@pytest.fixture
def answer() -> list[tuple[bool, str]]:
    return [(False, "tiles are behind")]


@pytest.fixture
def url(answer: list[tuple[bool, str]]) -> Iterator[str]:
    server = MetricsServer(0, lambda: answer[-1])
    server.start()
    yield f"http://127.0.0.1:{server.port}/readyz"
    server.close()


def test_one_that_is_not_ready_says_what_it_waits_for(url: str, answer: list[tuple[bool, str]]) -> None:
    probe = HttpReady(url)
    assert not probe()
    assert probe.detail() == "tiles are behind"
    answer.append((True, "both streams run"))
    assert probe()


def test_an_answer_without_a_detail_tells_nothing(url: str) -> None:
    assert HttpReady(url.replace("readyz", "healthz")).detail() == ""
    assert HttpReady(url.replace("readyz", "metrics")).detail() == ""


def test_one_that_does_not_answer_is_not_ready_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    probe = HttpReady(f"http://127.0.0.1:{port}/readyz")
    assert not probe()
    assert probe.detail() == ""
    assert not TcpOpen(f"127.0.0.1:{port}")()
