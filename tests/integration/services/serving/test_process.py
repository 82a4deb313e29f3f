"""The process as the supervisor runs it: it comes up healthy, and SIGTERM loses neither an answer nor a decision."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from flywheel.adapters.kafka_reader import KafkaReader
from flywheel.contracts.decisions import DecisionLogged
from flywheel.contracts.proto.decision_pb2 import DecideRequest
from flywheel.contracts.proto.decision_pb2_grpc import DecisionsStub
from flywheel.contracts.topics import decisions_topic
from tests.serving_parts import payment
from tests.serving_process import Started, started

pytestmark = pytest.mark.engine


@pytest.fixture
def serving(tmp_path: Path, kafka: str, redis_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    with started(tmp_path, kafka, redis_server, monkeypatch, LOG_LEVEL="DEBUG") as process:
        yield process


async def test_sigterm_finishes_what_is_under_way_and_flushes_every_decision(serving: Started, kafka: str) -> None:
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


def test_a_busy_port_is_said_in_one_sentence(serving: Started) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "services.serving"], capture_output=True, text=True, timeout=30, check=False
    )
    assert second.returncode == 1
    (said,) = [line for line in second.stderr.splitlines() if line.startswith("serving cannot start: ")]
    assert serving.address in said
    assert "FLYWHEEL_SERVING_ADDRESS" in said
