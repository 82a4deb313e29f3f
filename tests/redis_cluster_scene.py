"""A Redis Cluster of real processes whose nodes may be killed, stopped, started again, and given each other's slots."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from flywheel.adapters.redis_slots import slot_of
from infra.local import redis_cluster
from infra.local.readiness import RedisAnswers, comes_up
from infra.local.side_by_side import free_cluster_ports
from tests.engines import stop

_START_TIMEOUT_S = 60


class ClusterScene:
    """Three masters; whatever is stored stays when all of them end."""

    def __init__(self, directory: Path) -> None:
        self.ports = free_cluster_ports(3)
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in self.ports)
        self._directory = directory
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, *ports: int) -> None:
        """Starts these nodes; they answer, but may not have found each other yet."""
        for port in ports:
            directory = self._directory / str(port)
            directory.mkdir(exist_ok=True)
            with (directory / "redis.log").open("ab") as log:
                process = subprocess.Popen(redis_cluster.command(directory, port), stdout=log, stderr=log)
            self._processes[port] = process
            if not comes_up(process, RedisAnswers(port), _START_TIMEOUT_S):
                pytest.fail(f"the node at {port} did not answer:\n{(directory / 'redis.log').read_text()[-2000:]}")

    def form(self) -> None:
        """Makes them one cluster, or waits until they are again."""
        redis_cluster.form(self.ports)

    def kill(self, *ports: int) -> None:
        """Ends nodes without warning."""
        for port in ports:
            process = self._processes.pop(port)
            process.kill()
            process.wait()

    @contextmanager
    def hanging(self, port: int) -> Iterator[None]:
        """A node accepts connections and answers nothing."""
        pid = self._processes[port].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def is_given_up(self, port: int) -> bool:
        """Whether all nodes that run agree that this one does not."""
        told = [self.node(other).execute_command("CLUSTER", "NODES").decode() for other in self._processes]
        lines = [line.split() for each in told for line in each.splitlines() if f":{port}@" in line]
        return all("fail" in flags.split(",") for _, _, flags, *_ in lines)

    def end(self) -> None:
        """Stops all that run."""
        for process in self._processes.values():
            stop(process)

    def node(self, port: int) -> Any:
        """A client of one node."""
        return redis.Redis("127.0.0.1", port, socket_timeout=10.0)

    def port_of(self, key: bytes) -> int:
        """The node that has a key, as the nodes say themselves."""
        for first, last, (_, port, *_), *_ in self.node(self.ports[0]).execute_command("CLUSTER", "SLOTS"):
            if first <= slot_of(key) <= last:
                return int(port)
        raise AssertionError(f"no node has {key!r}")

    def begin_move(self, slot: int, source: int, target: int) -> None:
        """From now on the target takes keys of the slot, and the source gives away those it has."""
        self.node(target).execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(source))
        self.node(source).execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(target))

    def move_keys(self, slot: int, source: int, target: int, number: int = 100_000) -> int:
        """How many keys went."""
        keys = self.node(source).execute_command("CLUSTER", "GETKEYSINSLOT", slot, number)
        if keys:
            self.node(source).execute_command("MIGRATE", "127.0.0.1", target, "", 0, 5_000, "KEYS", *keys)
        return len(keys)

    def end_move(self, slot: int, source: int, target: int) -> None:
        """The slot is the target's."""
        for port in (target, source, *(port for port in self.ports if port not in (source, target))):
            self.node(port).execute_command("CLUSTER", "SETSLOT", slot, "NODE", self._id(target))

    def move(self, slot: int, source: int, target: int) -> None:
        """Moves a slot as an operator's tool does."""
        self.begin_move(slot, source, target)
        while self.move_keys(slot, source, target, number=1):
            pass
        self.end_move(slot, source, target)

    def _id(self, port: int) -> str:
        return str(self.node(port).execute_command("CLUSTER", "MYID").decode())


@contextmanager
def started_nodes(directory: Path) -> Iterator[ClusterScene]:
    """A scene whose nodes run, each by itself; what they store is in the directory."""
    made = ClusterScene(directory)
    try:
        made.start(*made.ports)
        yield made
    finally:
        made.end()


@contextmanager
def formed_cluster(directory: Path) -> Iterator[ClusterScene]:
    """A scene whose nodes are one cluster."""
    with started_nodes(directory) as made:
        made.form()
        yield made
