"""The loop turns on engines and services that run more than once, and survives the loss of one of each."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable
from datetime import datetime

import httpx
import orjson
import psutil
import pytest

from flywheel.adapters.kafka_positions import KafkaPositions
from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.contracts.settings import PlatformSettings
from flywheel.contracts.topics import event_topic
from flywheel.kernel import catalog
from flywheel.kernel.plan import compile_plan
from infra.local import scale
from infra.local.processes import Process, declaration, processes
from infra.local.sandbox import Sandbox
from infra.local.supervision import ALIVE, Supervisor
from loadtests.accounts import await_that, balance, settle
from tests.steady_calls import steady_calls

pytestmark = pytest.mark.scaled
PER_S = 40
MAKEFILE_SETS = re.compile(r"^export (FLYWHEEL_\w+) \?= (\S+)$", re.MULTILINE)


def declared(stack: Sandbox) -> dict[str, Process]:
    return {process.name: process for process in processes(declaration(stack.settings))}


def json(url: str) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = httpx.get(url, timeout=10).json()
    return found


def apps(page: str) -> list[dict[str, object]]:
    """What Spark's master says runs on its workers; nothing while it is away."""
    try:
        return json(page)["activeapps"]
    except httpx.TransportError:
        return []


def total(url: str, metric: str) -> float:
    """The sum of a metric over its labels."""
    text = httpx.get(url, timeout=10).text
    return sum(float(value) for value in re.findall(rf"^{metric}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE))


def decided(stack: Sandbox) -> list[float]:
    """Decisions that each replica has answered since it started."""
    return [total(url, "flywheel_serving_decisions_total") for url in scale.serving_metrics_urls(stack.settings)]


def subjects(stack: Sandbox) -> Callable[[int], bytes]:
    """Payments of now."""
    now = datetime.fromisoformat(httpx.get(f"{stack.settings.ingest_url}/v1/fraud/clock").json()["now"])
    fields = {"event_time": now.isoformat(), "terminal_id": "t000001", "amount_cents": 4_200}
    return lambda n: orjson.dumps({**fields, "event_id": f"scaled-{n}", "card_id": f"scaled-{n % 20}"})


async def awaited(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.1)


def is_back(stack: Sandbox, name: str, pid: int) -> bool:
    status = Supervisor(stack.settings).statuses()[name]
    return status.state in ALIVE and status.pid not in (0, pid) and declared(stack)[name].ready()


def test_everything_that_can_runs_more_than_once(stack: Sandbox) -> None:
    statuses = Supervisor(stack.settings).statuses()
    several = {"redis": 3, "edge": 2, "serving": 2, "spark-worker": 2}
    names = {f"{name}-{number + 1}" for name, count in several.items() for number in range(count)}
    assert names | {"balancer", "spark-master"} <= set(statuses)
    assert not {"redis", "edge", "serving"} & set(statuses)
    assert {statuses[name].state for name in names} <= ALIVE
    told = stack.run("make", "status", "SCALED=on", timeout_s=60)
    assert told.returncode == 0, told.stdout
    assert all(name in told.stdout for name in names)
    decided = stack.run("make", "decide", "SCALED=on", timeout_s=60)
    assert decided.returncode == 0, decided.stdout


def test_what_the_make_target_sets_is_what_is_tested(stack: Sandbox) -> None:
    sets = dict(MAKEFILE_SETS.findall((stack.checkout / "Makefile").read_text()))
    assert {name for name in sets if name not in ("FLYWHEEL_DATA_DIR", "FLYWHEEL_REDIS_URL")} == {
        name for name, value in sets.items() if stack.environment.get(name) == value
    }
    url = PlatformSettings.model_validate({"redis_url": sets["FLYWHEEL_REDIS_URL"]}).redis_url
    assert url.startswith("redis+cluster://")
    assert url.count(",") == stack.settings.redis_url.count(",") == 2


def test_both_edge_lanes_have_their_partitions(stack: Sandbox) -> None:
    urls = [f"http://127.0.0.1:{port}/metrics" for port in scale.edge_replicas(stack.settings).values()]
    before = [total(url, "flywheel_edge_events_total") for url in urls]
    await_that(
        "both put events on edges",
        lambda: all(total(url, "flywheel_edge_events_total") > then for url, then in zip(urls, before, strict=True)),
        60,
    )
    places = [(event_topic("fraud", "transaction").name, number) for number in range(6)]
    positions = KafkaPositions(stack.settings.kafka_bootstrap, "fraud.edge")
    try:
        found = positions.read(places)
    finally:
        positions.close()
    assert set(found) == set(places)
    assert all(noted.offset > 0 for noted in found.values())
    await_that("all events are visible", lambda: max(total(url, "flywheel_edge_lag_seconds") for url in urls) < 5, 60)


def test_both_spark_workers_compute(stack: Sandbox) -> None:
    (app,) = json(scale.spark_master(stack.settings).page)["activeapps"]
    assert app["cores"] == 2

    def used_s() -> list[float]:
        """Processor time of each worker's executor."""
        statuses = Supervisor(stack.settings).statuses()
        executors = [
            child
            for worker in scale.spark_workers(stack.settings)
            for child in psutil.Process(statuses[worker.name].pid).children(recursive=True)
            if "CoarseGrainedExecutorBackend" in " ".join(child.cmdline())
        ]
        return [sum(executor.cpu_times()[:2]) for executor in executors]

    before = used_s()
    assert len(before) == 2
    await_that(
        "each has worked for two seconds",
        lambda: all(now > then + 2 for now, then in zip(used_s(), before, strict=True)),
        120,
    )


async def test_calls_of_one_connection_are_answered_by_both_replicas(stack: Sandbox) -> None:
    before = decided(stack)
    async with steady_calls(stack.settings.serving_address, subjects(stack), per_s=PER_S) as calls:
        await awaited(lambda: len(calls.ended) >= 200)
    assert not calls.lost(), calls.told()
    shares = [now - then for now, then in zip(decided(stack), before, strict=True)]
    # The world asks as well.
    assert sum(shares) >= calls.told()["OK"]
    assert 0.3 < shares[0] / sum(shares) < 0.7


async def test_a_replica_that_is_stopped_fails_no_call(stack: Sandbox) -> None:
    supervisor = Supervisor(stack.settings)
    pid = supervisor.statuses()["serving-2"].pid
    async with steady_calls(stack.settings.serving_address, subjects(stack), per_s=PER_S) as calls:
        await awaited(lambda: len(calls.ended) >= 40)
        supervisor.end("serving-2")
        await awaited(lambda: supervisor.statuses()["serving-2"].pid == 0)
        before = len(calls.ended)
        await awaited(lambda: len(calls.ended) >= before + 40)
        supervisor.begin("serving-2")
        await awaited(lambda: is_back(stack, "serving-2", pid))
        await awaited(lambda: decided(stack)[1] > 20)
    assert not calls.lost(), calls.told()


async def test_a_replica_that_is_killed_fails_only_what_it_had(stack: Sandbox) -> None:
    pid = Supervisor(stack.settings).statuses()["serving-1"].pid
    async with steady_calls(stack.settings.serving_address, subjects(stack), per_s=PER_S) as calls:
        await awaited(lambda: len(calls.ended) >= 40)
        os.kill(pid, signal.SIGKILL)
        killed_s = time.monotonic()
        await awaited(lambda: is_back(stack, "serving-1", pid))
        await awaited(lambda: decided(stack)[0] > 20)
    assert not calls.lost(from_s=killed_s + 1.0), calls.told()
    assert len(calls.lost()) <= 10, calls.told()


def test_one_of_each_may_be_killed_and_nothing_is_lost_or_counted_twice(stack: Sandbox) -> None:
    """A Redis master, an edge lane, a worker of Spark and its master, one after the other."""
    master = scale.spark_master(stack.settings)
    for name in ("redis-2", "edge-1", "spark-worker-1", "spark-master"):
        pid = Supervisor(stack.settings).statuses()[name].pid
        os.kill(pid, signal.SIGKILL)

        def back(name: str = name, pid: int = pid) -> bool:
            return is_back(stack, name, pid)

        await_that(f"{name} is back", back, 120)
        await_that("features computes on both workers", lambda: [app["cores"] for app in apps(master.page)] == [2], 120)
    writer = RedisFeatureWriter(stack.settings.redis_url, compile_plan(catalog.load("fraud")))
    try:
        before = sum(writer.counters().values())
        await_that("events are counted again", lambda: sum(writer.counters().values()) > before, 120)
    finally:
        writer.close()
    settle(stack, 240)
    books = balance(stack)
    distinct = books["events_sent"] - books["events_rejected"] - books["duplicates"]
    assert books["events_archived_distinct"] == distinct > 0
    assert books["events_counted"] == books["events_counted_most"] == books["events_archived_distinct"]
