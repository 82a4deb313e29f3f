"""Whatever is killed, every decision that was answered is in the log: with a spool none is lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import pytest

from flywheel.adapters.kafka_reader import KafkaReader
from flywheel.adapters.kafka_topics import create_topics
from flywheel.contracts.decisions import DecisionLogged
from flywheel.contracts.proto.decision_pb2 import DecideRequest
from flywheel.contracts.proto.decision_pb2_grpc import DecisionsStub
from flywheel.contracts.topics import decisions_topic
from flywheel.kernel.reconciliation import Reconciliation
from infra.local import broker
from infra.local.readiness import BrokerAnswers, GrpcServing
from tests.engines import free_port, running
from tests.serving_parts import payment

pytestmark = pytest.mark.engine

TOPIC = decisions_topic("fraud")


class Stack:
    """A broker and serving, each to be killed and started again where it was."""

    def __init__(self, directory: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.node = broker.Broker(directory / "kafka", free_port(), free_port())
        self.address = f"127.0.0.1:{free_port()}"
        self.directory = directory
        self.answered: set[str] = set()
        broker.prepare(self.node)
        for name, value in {
            "DATA_DIR": str(directory / "data"),
            "KAFKA_BOOTSTRAP": self.node.bootstrap,
            "REDIS_URL": redis_url,
            "SERVING_ADDRESS": self.address,
            "SERVING_REST_ADDRESS": "",
            "SERVING_METRICS_PORT": str(free_port()),
        }.items():
            monkeypatch.setenv(f"FLYWHEEL_{name}", value)

    @contextmanager
    def broker(self) -> Iterator[subprocess.Popen[bytes]]:
        with running(
            broker.command(self.node), BrokerAnswers(self.node.bootstrap), self.directory / "broker.log"
        ) as process:
            yield process

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "services.serving"]
        with running(command, GrpcServing(self.address), self.directory / "serving.log") as process:
            yield process

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """Four callers, until the block ends."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            callers = [asyncio.create_task(self._call(channel, caller)) for caller in range(4)]
            yield
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)

    async def _call(self, channel: grpc.aio.Channel, caller: int) -> None:
        decide, number = DecisionsStub(channel).Decide, 0
        while True:
            number += 1
            subject = payment(event_id=f"{caller}-{number}-{time.monotonic_ns()}", card_id=f"c{number % 50}")
            try:
                answer = await decide(DecideRequest(usecase="fraud", subject=subject), timeout=2)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.01)
            else:
                self.answered.add(answer.decision_id)

    async def more(self, answers: int) -> None:
        """Waits for that many more answers."""
        wanted = len(self.answered) + answers
        async with asyncio.timeout(60):
            while len(self.answered) < wanted:
                await asyncio.sleep(0.01)

    def logged(self) -> list[DecisionLogged]:
        """All that is in the topic, as soon as all that was answered is."""
        reader = KafkaReader(self.node.bootstrap, [TOPIC.name], group="evidence-test")
        found: list[DecisionLogged] = []
        missing = set(self.answered)
        until = time.monotonic() + 60
        while missing and time.monotonic() < until:
            found += [DecisionLogged.model_validate_json(record.value) for record in reader.poll(0.5, 5_000)]
            missing -= {logged.decision_id for logged in found}
        reader.close()
        assert not missing, f"{len(missing)} of {len(self.answered)} answered decisions are not in the log"
        return found


@pytest.mark.parametrize("promise", ["process", "disk"])
async def test_broker_and_serving_are_killed_under_load_and_no_decision_is_lost(
    promise: str, tmp_path: Path, redis_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYWHEEL_SERVING_SPOOL_PROMISE", promise)
    # However busy the disk of the machine that tests: an answer that does not wait for it is not promised anything.
    monkeypatch.setenv("FLYWHEEL_SERVING_SPOOL_PATIENCE_MS", "2000")
    stack = Stack(tmp_path, redis_server, monkeypatch)
    with stack.broker() as node, stack.serving() as first:
        create_topics(stack.node.bootstrap, [TOPIC])
        async with stack.calling():
            await stack.more(200)
            node.kill()
            # Nothing but the spool has these.
            await stack.more(200)
            first.kill()
    with stack.broker():
        with stack.serving() as second:
            async with stack.calling():
                await stack.more(200)
            second.terminate()
            assert await asyncio.to_thread(second.wait, 20) == 0
        logged = await asyncio.to_thread(stack.logged)
    assert not list((tmp_path / "data" / "spool").rglob("*.spool"))
    account = Reconciliation(patience_us=0)
    for each in logged:
        account.take(each.writer, each.sequence, lost=each.lost_before, at_us=0)
    found = account.state(now_us=1)
    assert found.writers == 2
    assert (found.lost, found.unexplained) == (0, 0)
