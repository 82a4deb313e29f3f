"""Real engines for tests: each is started once a session, on a free port, below a temporary directory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from flywheel.adapters.spark_session import start_session
from infra.local import broker, jars, online_store, redis_cluster, side_by_side
from infra.local.ending import end
from infra.local.failures import CannotStart
from infra.local.places import JARS
from infra.local.readiness import BrokerAnswers, Probe, RedisAnswers, comes_up
from infra.local.side_by_side import free_ports

_START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 20


def free_port() -> int:
    """A port of this machine that nothing listened on a moment ago."""
    return free_ports(1)[0]


@contextmanager
def running(command: list[str], ready: Probe, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process, once it answers; stopped at the end. Fails with the log's end when it does not come up."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        if not comes_up(process, ready, _START_TIMEOUT_S):
            pytest.fail(f"{command[0]} did not answer {ready}:\n{log.read_text()[-2000:]}")
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the process, gracefully if it will."""
    end(process, _STOP_TIMEOUT_S)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of a real broker without topics."""
    try:
        jars.verify()
        directory = tmp_path_factory.mktemp("kafka")
        node = broker.Broker(directory, free_port(), free_port())
        broker.prepare(node)
    except CannotStart as reason:
        pytest.fail(str(reason))
    with running(broker.command(node), BrokerAnswers(node.bootstrap), directory / "broker.log"):
        yield node.bootstrap


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real, empty Redis, such as `redis://127.0.0.1:40123/0`."""
    directory = tmp_path_factory.mktemp("redis")
    port = free_port()
    with running(online_store.command(directory, port), RedisAnswers(port), directory / "redis.log"):
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="session")
def redis_cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Redis Cluster of three masters, such as `redis+cluster://127.0.0.1:20123,…`."""
    ports = side_by_side.free_cluster_ports(3)
    with ExitStack() as nodes:
        for port in ports:
            directory = tmp_path_factory.mktemp("redis-node")
            command = redis_cluster.command(directory, port)
            nodes.enter_context(running(command, RedisAnswers(port), directory / "redis.log"))
        redis_cluster.form(ports)
        yield "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one Spark of this process: what its Java machine was started with, jars among it, holds to the end."""
    made = start_session(
        "tests",
        master="local[2]",
        heap_mib=768,
        shuffle_partitions=2,
        jars=sorted((JARS / "spark").glob("*.jar")),
        scratch_dir=tmp_path_factory.mktemp("spark"),
    )
    yield made
    made.stop()


@pytest.fixture
def feast_environment() -> Iterator[None]:
    """Feast tells prometheus_client, by the environment, to keep metrics in files; no later test may inherit it."""
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
