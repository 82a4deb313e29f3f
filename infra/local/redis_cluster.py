"""A Redis Cluster on this machine: a real Redis for each address of the settings, each a master of as many slots.

`python -m infra.local.redis_cluster node <port>` becomes one of them; `python -m infra.local.redis_cluster form` makes
them one cluster, and does nothing where they are one already.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError

from flywheel.adapters.redis_address import cluster_address
from flywheel.adapters.redis_slots import SLOTS
from flywheel.contracts.settings import PlatformSettings
from infra.local import online_store
from infra.local.becoming import become
from infra.local.failures import CannotStart
from infra.local.readiness import until

_HOST = "127.0.0.1"
_NODE_TIMEOUT_MS = 2_000
_FORM_WITHIN_S = 60.0
_LOOK_AGAIN_S = 0.05
_BUS_ABOVE = 10_000
"""Nodes speak to each other at a port this much above the one for clients."""


def ports_of(settings: PlatformSettings) -> list[int]:
    """The ports in the stack's Redis address."""
    return [node.port for node in cluster_address(settings.redis_url).nodes]


def bus_port_of(port: int) -> int:
    """Where a node speaks to the others."""
    return port + _BUS_ABOVE


def directory_of(settings: PlatformSettings, port: int) -> Path:
    """Where a node's append-only file lies, and what it knows of the others."""
    return settings.data_dir.absolute() / f"redis-{port}"


def command(directory: Path, port: int) -> list[str]:
    """The command that runs one node in the foreground until SIGTERM; the directory must exist."""
    return [
        *online_store.command(directory, port),
        *("--cluster-enabled", "yes", "--cluster-node-timeout", str(_NODE_TIMEOUT_MS)),
        # What the nodes that are there hold is readable while another is away.
        *("--cluster-require-full-coverage", "no"),
    ]


def form(ports: Sequence[int]) -> None:
    """Makes one cluster of the nodes at these ports of this machine, or waits until they are the one they were.

    Raises CannotStart when they do not become one in time.
    """
    clients: list[Any] = [redis.Redis(_HOST, port, socket_timeout=5.0) for port in ports]
    whole = partial(_are_whole, clients)
    try:
        if not whole():
            for place, client in enumerate(clients):
                _share(client, place, len(ports))
            for port in ports[1:]:
                clients[0].execute_command("CLUSTER", "MEET", _HOST, port)
        if not until(whole, _FORM_WITHIN_S, clock=time.monotonic, pause=lambda: time.sleep(_LOOK_AGAIN_S)):
            raise CannotStart(f"The Redis nodes at {list(ports)} did not become one cluster in {_FORM_WITHIN_S:.0f} s")
    except RedisError as error:
        raise CannotStart(f"The Redis nodes at {list(ports)} cannot be made one cluster: {error}") from error
    finally:
        for client in clients:
            client.close()


def _share(client: Any, place: int, number: int) -> None:
    """Gives a node its part of the slots, unless it ever belonged to a cluster or has been given it already."""
    told = _info(client)
    if told["cluster_known_nodes"] == "1" and told["cluster_slots_assigned"] == "0":
        client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
        client.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS * place // number, SLOTS * (place + 1) // number))


def _are_whole(clients: Sequence[Any]) -> bool:
    """Whether each node knows who has each slot, and that all of those are there."""
    told = [_info(client) for client in clients]
    return all(each["cluster_state"] == "ok" and each["cluster_slots_ok"] == str(SLOTS) for each in told)


def _info(client: Any) -> dict[str, str]:
    lines = client.execute_command("CLUSTER", "INFO").decode().split()
    return dict(line.split(":", 1) for line in lines)


def main(arguments: Sequence[str]) -> None:
    """Becomes a node of the cluster that the settings describe, or forms it."""
    settings = PlatformSettings()
    if arguments[0] == "form":
        ports = ports_of(settings)
        try:
            form(ports)
        except CannotStart as reason:
            sys.exit(str(reason))
        print(f"{len(ports)} masters have all {SLOTS} slots")
        return
    port = int(arguments[1])
    directory = directory_of(settings, port)
    directory.mkdir(parents=True, exist_ok=True)
    become(lambda: command(directory, port))


if __name__ == "__main__":
    main(sys.argv[1:])
