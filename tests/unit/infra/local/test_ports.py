"""A taken port is told with its holder and the setting that moves ours."""

from __future__ import annotations

import os
import socket

import pytest

from infra.local import ports
from infra.local.failures import CannotStart
from infra.local.processes import Process
from infra.local.readiness import TcpOpen


def process_at(port: int) -> Process:
    return Process(
        name="ingest",
        command=("true",),
        after=(),
        ready=TcpOpen(f"127.0.0.1:{port}"),
        within_s=1,
        address="",
        ports={"FLYWHEEL_INGEST_URL": port},
    )


def test_a_taken_port_names_process_holder_and_setting() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CannotStart) as refused:
            ports.check_free([process_at(port)])
    assert str(refused.value).startswith(f"Port {port} (ingest) is taken by another program (")
    assert f"pid {os.getpid()})" in str(refused.value)
    assert str(refused.value).endswith("free it or set FLYWHEEL_INGEST_URL to another address")


def test_a_port_that_was_let_go_is_free() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
    ports.check_free([process_at(port)])


def test_the_sentence_does_without_a_holder() -> None:
    sentence = ports.busy_sentence("redis", "FLYWHEEL_REDIS_URL", 16379, "")
    assert (
        sentence
        == "Port 16379 (redis) is taken by another program; free it or set FLYWHEEL_REDIS_URL to another address"
    )
