"""Ingest as a process on a real broker: nothing acknowledged is lost when the broker dies, hangs or comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from flywheel.adapters.kafka_reader import KafkaReader
from infra.local import broker
from infra.local.readiness import BrokerAnswers, HttpReady
from tests.engines import free_port, running, stop

pytestmark = pytest.mark.engine

TOPIC = "fraud.events.transaction"
DELIVERY_TIMEOUT_S = 3.0


@dataclass
class OwnBroker:
    """A broker that a test may hurt."""

    node: broker.Broker
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.node.directory / "broker.log").open("ab") as output:
            self.process = subprocess.Popen(broker.command(self.node), stdout=output, stderr=subprocess.STDOUT)

    def signal(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            # One that is stopped would never see the request to end.
            self.process.send_signal(signal.SIGCONT)
            stop(self.process)


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBroker]:
    made = OwnBroker(broker.Broker(tmp_path_factory.mktemp("own-kafka"), free_port(), free_port()))
    broker.prepare(made.node)
    made.start()
    try:
        wait_for(BrokerAnswers(made.node.bootstrap), 60)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def ingest(own_broker: OwnBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingest]:
    url = f"http://127.0.0.1:{free_port()}"
    log = tmp_path_factory.mktemp("ingest") / "ingest.log"
    with running_ingest(own_broker.node.bootstrap, url, log) as process:
        yield Ingest(url, process, log)


@dataclass
class Ingest:
    url: str
    process: subprocess.Popen[bytes]
    log: Path


def running_ingest(bootstrap: str, url: str, log: Path) -> Any:
    settings = {
        "FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap,
        "FLYWHEEL_INGEST_URL": url,
        "FLYWHEEL_INGEST_USECASES": '["fraud"]',
        "FLYWHEEL_INGEST_DELIVERY_TIMEOUT_S": str(DELIVERY_TIMEOUT_S),
    }
    command = ["env", *(f"{name}={value}" for name, value in settings.items()), sys.executable, "-m", "services.ingest"]
    return running(command, HttpReady(f"{url}/readyz"), log)


def wait_for(condition: Callable[[], bool], timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"not within {timeout_s} s: {condition}"
        time.sleep(0.05)


@dataclass
class History:
    """What the clients were answered, in order."""

    answers: list[tuple[float, float, httpx.Response]] = field(default_factory=list)
    accepted: set[str] = field(default_factory=set)
    sent: dict[str, list[str]] = field(default_factory=dict)

    def since(self, moment: float) -> list[tuple[float, httpx.Response]]:
        """Duration and answer of the requests sent after that moment."""
        return [(seconds, answer) for sent, seconds, answer in self.answers if sent >= moment]

    def statuses_since(self, moment: float) -> set[int]:
        return {answer.status_code for _, answer in self.since(moment)}


@asynccontextmanager
async def load(url: str, history: History, clients: int = 3, *, server_ends: bool = False) -> AsyncIterator[None]:
    """Clients that post batches, each one after the other, and send a refused batch again until it is accepted.

    They may lose their connection only if `server_ends`, and then they stop.
    """
    stopping = asyncio.Event()

    async def client(card: str) -> None:
        excused = suppress(httpx.TransportError) if server_ends else nullcontext()
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            with excused:
                await post_all(http, card)

    async def post_all(http: httpx.AsyncClient, card: str) -> None:
        number = 0
        while not stopping.is_set():
            ids = [f"{card}.{number + step}" for step in range(20)]
            await post_until_accepted(http, card, ids, history, stopping)
            number += len(ids)

    tasks = [asyncio.create_task(client(f"card-{uuid.uuid4().hex[:8]}")) for _ in range(clients)]
    try:
        yield
    finally:
        stopping.set()
        await asyncio.gather(*tasks)


async def post_until_accepted(
    http: httpx.AsyncClient, card: str, ids: list[str], history: History, stopping: asyncio.Event
) -> None:
    events = [
        {"event_id": name, "event_time": "2018-04-01T00:00:31Z", "card_id": card, "terminal_id": "t", "amount_cents": 9}
        for name in ids
    ]
    while not stopping.is_set():
        sent = time.monotonic()
        answer = await http.post("/v1/fraud/transaction/batch", json={"events": events})
        history.answers.append((sent, time.monotonic() - sent, answer))
        results = answer.json()["results"]
        history.accepted |= {result["event_id"] for result in results if result["status"] == "accepted"}
        await asyncio.sleep(0.02)
        if answer.status_code == 200:
            history.sent.setdefault(card, []).extend(ids)
            return


async def until(condition: Callable[[], bool], timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.05)


def kept(bootstrap: str) -> list[str]:
    """Ids of all events in the topic, in the order of each partition."""
    reader = KafkaReader(bootstrap, [TOPIC], f"check-{uuid.uuid4().hex}")
    found: list[str] = []
    behind = reader.lag()
    until = time.monotonic() + 30
    while len(found) < behind and time.monotonic() < until:
        found += [orjson.loads(record.value)["event"]["event_id"] for record in reader.poll(1.0, 5_000)]
    reader.close()
    return found


def assert_nothing_lost(history: History, bootstrap: str) -> None:
    found = kept(bootstrap)
    assert history.accepted
    assert history.accepted <= set(found)
    for card, ids in history.sent.items():
        first_seen = list(dict.fromkeys(name for name in found if name.startswith(f"{card}.")))
        assert first_seen[: len(ids)] == ids


@pytest.mark.parametrize("how", ["dies", "hangs"])
async def test_a_broker_that_goes_away_costs_no_acknowledged_event(
    own_broker: OwnBroker, ingest: Ingest, how: str
) -> None:
    history = History()
    async with load(ingest.url, history):
        await until(lambda: len(history.accepted) > 500, 20)
        own_broker.signal(signal.SIGKILL if how == "dies" else signal.SIGSTOP)
        away = time.monotonic()
        await until(lambda: 503 in history.statuses_since(away), DELIVERY_TIMEOUT_S + 5)
        refusing = time.monotonic()
        await until(lambda: len(history.since(refusing)) >= 20, 5)
        assert (await readiness(ingest.url)) == 503

        if how == "dies":
            own_broker.start()
        else:
            own_broker.signal(signal.SIGCONT)
        back = time.monotonic()
        await until(lambda: 200 in history.statuses_since(back), 60)
        settled = time.monotonic()
        await until(lambda: len(history.since(settled)) >= 30, 20)

    assert history.statuses_since(settled) == {200}
    assert all(seconds < DELIVERY_TIMEOUT_S + 2 for seconds, _ in history.since(away))
    refusals = [(seconds, answer) for seconds, answer in history.since(refusing) if answer.status_code == 503]
    assert {answer.headers["retry-after"] for _, answer in refusals} == {"1"}
    assert {answer.headers["content-type"] for _, answer in refusals} == {"application/problem+json"}
    assert sorted(seconds for seconds, _ in refusals)[len(refusals) // 2] < 0.25
    assert_nothing_lost(history, own_broker.node.bootstrap)


async def test_a_termination_lets_requests_finish(own_broker: OwnBroker, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    history = History()
    with running_ingest(own_broker.node.bootstrap, url, tmp_path / "ingest.log") as process:
        async with load(url, history, server_ends=True):
            await until(lambda: len(history.accepted) > 500, 20)
            process.send_signal(signal.SIGTERM)
            await until(lambda: process.poll() is not None, 20)
        # uvicorn raises the signal again once it has shut down, so that its parent sees why it ended.
        assert process.returncode in (0, -signal.SIGTERM)
    assert {answer.status_code for _, _, answer in history.answers} == {200}
    assert_nothing_lost(history, own_broker.node.bootstrap)


async def test_ingest_waits_for_a_broker_that_comes_later(tmp_path: Path) -> None:
    node = broker.Broker(tmp_path / "late-kafka", free_port(), free_port())
    broker.prepare(node)
    late = OwnBroker(node)
    url = f"http://127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "FLYWHEEL_KAFKA_BOOTSTRAP": node.bootstrap,
        "FLYWHEEL_INGEST_URL": url,
        "FLYWHEEL_INGEST_DELIVERY_TIMEOUT_S": "1",
    }
    process = subprocess.Popen([sys.executable, "-m", "services.ingest"], env=environment, stderr=subprocess.DEVNULL)
    try:
        await until(lambda: HttpReady(f"{url}/healthz")(), 20)
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            answer = await http.post("/v1/fraud/transaction", json=EVENT)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert await readiness(url) == 503
            late.start()
            await until(lambda: HttpReady(f"{url}/readyz")(), 60)
            assert (await http.post("/v1/fraud/transaction", json=EVENT)).status_code == 202
    finally:
        stop(process)
        late.close()


EVENT = {
    "event_id": "e1",
    "event_time": "2018-04-01T00:00:31Z",
    "card_id": "c1",
    "terminal_id": "t1",
    "amount_cents": 1,
}


async def readiness(url: str) -> int:
    async with httpx.AsyncClient(base_url=url, timeout=10) as http:
        return (await http.get("/readyz")).status_code
