"""A serving process that is told to stop gives notice: it is not ready any more, and answers all the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flywheel.contracts.proto.decision_pb2 import DecideRequest
from flywheel.contracts.proto.decision_pb2_grpc import DecisionsStub
from infra.local.readiness import GrpcServing
from loadtests.accounts import await_that
from tests.engines import free_port, running
from tests.serving_parts import payment

pytestmark = pytest.mark.engine


@dataclass(frozen=True)
class Told:
    process: subprocess.Popen[bytes]
    address: str
    metrics_url: str

    def is_ready(self) -> bool:
        return httpx.get(f"{self.metrics_url}/readyz").is_success


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """Serving that was told to stop a moment ago, and has half a minute for its notice."""
    monkeypatch.setenv("FLYWHEEL_SERVING_NOTICE_S", "30")
    address, metrics_port = f"127.0.0.1:{free_port()}", free_port()
    command = [sys.executable, "-m", "tests.slow_serving", address, str(metrics_port), str(tmp_path)]
    with running(command, GrpcServing(address), tmp_path / "log") as process:
        found = Told(process, address, f"http://127.0.0.1:{metrics_port}")
        assert found.is_ready()
        process.terminate()
        yield found
        process.kill()


def test_it_says_so_and_answers_whoever_still_asks(told: Told) -> None:
    await_that("it is not ready", lambda: not told.is_ready(), 5)
    with grpc.insecure_channel(told.address) as channel:
        answer = DecisionsStub(channel).Decide(DecideRequest(usecase="fraud", subject=payment()), timeout=5)
        assert answer.action
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert told.process.poll() is None
