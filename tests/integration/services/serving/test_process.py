"""The process as the supervisor runs it: it comes up healthy, and SIGTERM loses neither an answer nor a decision."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest

from flywheel.adapters.kafka_reader import KafkaReader
from flywheel.adapters.kafka_topics import create_topics
from flywheel.contracts.decisions import DecisionLogged
from flywheel.contracts.proto.decision_pb2 import DecideRequest
from flywheel.contracts.proto.decision_pb2_grpc import DecisionsStub
from flywheel.contracts.topics import decisions_topic
from infra.local.readiness import GrpcServing
from tests.engines import free_port, running
from tests.serving_parts import payment

pytestmark = pytest.mark.engine


@dataclass(frozen=True)
class Running:
    """A serving process and where it answers."""

    process: subprocess.Popen[bytes]
    address: str
    metrics_url: str
    log: Path


@pytest.fixture
def serving(tmp_path: Path, kafka: str, redis_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    create_topics(kafka, [decisions_topic("fraud")])
    address, metrics_port = f"127.0.0.1:{free_port()}", free_port()
    for name, value in {
        "DATA_DIR": str(tmp_path),
        "KAFKA_BOOTSTRAP": kafka,
        "REDIS_URL": redis_server,
        "SERVING_ADDRESS": address,
        "SERVING_REST_ADDRESS": f"127.0.0.1:{free_port()}",
        "SERVING_METRICS_PORT": str(metrics_port),
        "LOG_LEVEL": "DEBUG",
    }.items():
        monkeypatch.setenv(f"FLYWHEEL_{name}", value)
    log = tmp_path / "serving.log"
    with running([sys.executable, "-m", "services.serving"], GrpcServing(address), log) as process:
        yield Running(process, address, f"http://127.0.0.1:{metrics_port}", log)


async def test_sigterm_finishes_what_is_under_way_and_flushes_every_decision(serving: Running, kafka: str) -> None:
    assert httpx.get(f"{serving.metrics_url}/readyz").json() == {
        "status": "ready",
        "detail": "degraded: no model yet, the rule answers",
    }
    answered: set[str] = set()
    codes: set[grpc.StatusCode] = set()
    async with grpc.aio.insecure_channel(serving.address) as channel:
        decide = DecisionsStub(channel).Decide

        async def call_until_it_is_gone() -> None:
            while True:
                try:
                    answer = await decide(DecideRequest(usecase="fraud", subject=payment(card_id="c-person")))
                except grpc.aio.AioRpcError as error:
                    codes.add(error.code())
                    if error.code() is grpc.StatusCode.UNAVAILABLE:
                        return
                else:
                    answered.add(answer.decision_id)

        callers = [asyncio.create_task(call_until_it_is_gone()) for _ in range(4)]
        async with asyncio.timeout(20):
            while len(answered) < 100:
                await asyncio.sleep(0.01)
            os.kill(serving.process.pid, signal.SIGTERM)
            await asyncio.gather(*callers)
    assert serving.process.wait(15) == 0
    # A call that arrives while the door closes is turned away as cancelled, before the service has seen it.
    assert codes <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}
    assert answered <= await asyncio.to_thread(logged, kafka, answered)
    lines = serving.log.read_text()
    assert '"CANCELLED"' not in lines
    assert '"event": "decided"' in lines
    assert "c-person" not in lines


def logged(kafka: str, wanted: set[str]) -> set[str]:
    """Ids of the decisions in the topic, read until all wanted ones are there."""
    reader = KafkaReader(kafka, [decisions_topic("fraud").name], group="serving-process-test")
    found: set[str] = set()
    until = time.monotonic() + 20
    while not wanted <= found and time.monotonic() < until:
        found |= {DecisionLogged.model_validate_json(r.value).decision_id for r in reader.poll(0.5, 1_000)}
    reader.close()
    return found


def test_a_busy_port_is_said_in_one_sentence(serving: Running) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "services.serving"], capture_output=True, text=True, timeout=30, check=False
    )
    assert second.returncode == 1
    (said,) = [line for line in second.stderr.splitlines() if line.startswith("serving cannot start: ")]
    assert serving.address in said
    assert "FLYWHEEL_SERVING_ADDRESS" in said
