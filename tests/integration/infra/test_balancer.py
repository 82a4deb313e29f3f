"""The balancer as the stack runs it, before two real serving processes: their stores are in memory."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from flywheel.contracts.settings import PlatformSettings
from infra.local import balancer
from infra.local.failures import CannotStart
from infra.local.readiness import GrpcServing
from infra.local.scale import ServingReplica, serving_replicas
from infra.local.side_by_side import environment
from tests.engines import running, stop
from tests.serving_parts import payment
from tests.steady_calls import steady_calls

pytestmark = pytest.mark.engine
PER_S = 100


def haproxy() -> Path | None:
    """Its binary, where there is one."""
    try:
        return balancer.binary(PlatformSettings())
    except CannotStart:
        return None


needs_haproxy = pytest.mark.skipif(haproxy() is None, reason="no HAProxy on this machine")


class Front:
    """Two replicas and what is before them."""

    def __init__(self, settings: PlatformSettings) -> None:
        self.settings = settings
        self.address = settings.serving_address
        self.replicas = serving_replicas(settings)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()

    def begin(self, replica: ServingReplica) -> None:
        """Starts a replica, and returns when it answers."""
        folder = self.settings.data_dir
        command = [sys.executable, "-m", "tests.slow_serving", replica.address, str(replica.metrics_port), str(folder)]
        started = running(command, GrpcServing(replica.address), folder / f"{replica.name}.log")
        self.processes[replica.name] = self._stack.enter_context(started)

    def balance(self) -> None:
        """Starts the balancer."""
        program = haproxy()
        assert program
        command = balancer.command(program, balancer.prepare(self.settings))
        log = self.settings.data_dir / "balancer.log"
        self._stack.enter_context(running(command, GrpcServing(self.address), log))

    def close(self) -> None:
        self._stack.close()

    def decided(self) -> list[int]:
        """How many decisions each replica has answered."""
        return [_decisions(f"http://127.0.0.1:{replica.metrics_port}/metrics") for replica in self.replicas]


def _decisions(url: str) -> int:
    families = text_string_to_metric_families(httpx.get(url).text)
    return sum(
        int(each.value)
        for found in families
        for each in found.samples
        if each.name == "flywheel_serving_decisions_total"
    )


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("front")
    values = {name.removeprefix("FLYWHEEL_").lower(): value for name, value in environment(folder).items()}
    settings = PlatformSettings.model_validate(values | {"serving_replicas": 2, "serving_rest_address": ""})
    made = Front(settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLYWHEEL_SERVING_NOTICE_S", str(balancer.NOTICE_S))
        try:
            for replica in made.replicas:
                made.begin(replica)
            made.balance()
            yield made
        finally:
            made.close()


async def awaited(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.05)


def subject(number: int) -> bytes:
    return payment(card_id=f"c{number % 50}")


@needs_haproxy
async def test_calls_of_one_connection_are_shared_by_the_replicas(front: Front) -> None:
    before = front.decided()
    async with steady_calls(front.address, subject, per_s=PER_S) as calls:
        await awaited(lambda: len(calls.ended) >= 200)
    assert not calls.lost()
    one, other = (now - then for now, then in zip(front.decided(), before, strict=True))
    assert one + other == len(calls.ended)
    assert 0.3 < one / (one + other) < 0.7
    for replica in front.replicas:
        # Being asked five times a second is worth no line.
        assert "Traceback" not in (front.settings.data_dir / f"{replica.name}.log").read_text()


@needs_haproxy
async def test_a_replica_that_is_stopped_fails_no_call(front: Front) -> None:
    leaving = front.replicas[0]
    async with steady_calls(front.address, subject, per_s=PER_S) as calls:
        await awaited(lambda: len(calls.ended) >= 50)
        await asyncio.to_thread(stop, front.processes[leaving.name])
        before = len(calls.ended)
        await awaited(lambda: len(calls.ended) >= before + 50)
        await asyncio.to_thread(front.begin, leaving)
        await awaited(lambda: front.decided()[0] > 20)
    assert not calls.lost()


@needs_haproxy
async def test_a_replica_that_is_killed_fails_only_what_it_had(front: Front) -> None:
    killed = front.replicas[0]
    async with steady_calls(front.address, subject, per_s=PER_S) as calls:
        await awaited(lambda: len(calls.ended) >= 50)
        os.kill(front.processes[killed.name].pid, signal.SIGKILL)
        killed_s = time.monotonic()
        await awaited(lambda: sum(sent_s > killed_s for sent_s, _ in calls.ended) >= 100)
        await asyncio.to_thread(front.begin, killed)
        await awaited(lambda: front.decided()[0] > 20)
    # Whatever came after the connection was seen to be gone was answered by the other.
    assert not calls.lost(from_s=killed_s + 1.0), calls.told()
    assert len(calls.lost()) <= 10, calls.told()
