"""Settings for one more stack on this machine: its own ports, its own data directory, everything else as it is."""

from __future__ import annotations

import random
import socket
from itertools import islice
from pathlib import Path

from infra.local.redis_cluster import bus_port_of
from infra.local.scale import PORTS

# Below the range from which systems give ports to clients: those may be taken by any connection before they are used.
_CANDIDATES = range(20_000, 32_000)


def environment(data_dir: Path) -> dict[str, str]:
    """`FLYWHEEL_*` for a stack beside others, on ports that were free a moment ago."""
    kafka, replicas = _free_run(2), _free_run(PORTS)
    taken = {kafka, kafka + 1, *range(replicas, replicas + PORTS)}
    redis, ingest, serving, rest, monitor, prometheus, *metrics = (
        str(port) for port in free_ports(11, apart_from=taken)
    )
    services = ("FEATURES", "EDGE", "SERVING", "TRAINER", "WORLD")
    return {
        "FLYWHEEL_DATA_DIR": str(data_dir),
        "FLYWHEEL_KAFKA_BOOTSTRAP": f"127.0.0.1:{kafka}",
        "FLYWHEEL_REDIS_URL": f"redis://127.0.0.1:{redis}/0",
        "FLYWHEEL_INGEST_URL": f"http://127.0.0.1:{ingest}",
        "FLYWHEEL_SERVING_ADDRESS": f"127.0.0.1:{serving}",
        "FLYWHEEL_SERVING_REST_ADDRESS": f"127.0.0.1:{rest}",
        "FLYWHEEL_MONITOR_URL": f"http://127.0.0.1:{monitor}",
        "FLYWHEEL_PROMETHEUS_PORT": prometheus,
        "FLYWHEEL_REPLICA_PORTS": str(replicas),
        **{f"FLYWHEEL_{name}_METRICS_PORT": port for name, port in zip(services, metrics, strict=True)},
    }


def free_ports(count: int, apart_from: frozenset[int] | set[int] = frozenset()) -> list[int]:
    """Different ports of this machine that nothing listened on a moment ago, none that clients are given."""
    found = (port for port in _shuffled_ports() if port not in apart_from and _is_free(port))
    return list(islice(found, count))


def free_cluster_ports(count: int, apart_from: frozenset[int] | set[int] = frozenset()) -> list[int]:
    """As `free_ports`, for nodes of a Redis Cluster: where they speak to each other is free, too, and no client's."""
    found = (
        port
        for port in _shuffled_ports()
        if bus_port_of(port) < _CANDIDATES.stop and not {port, bus_port_of(port)} & apart_from
        if _is_free(port) and _is_free(bus_port_of(port))
    )
    return list(islice(found, count))


def _free_run(length: int) -> int:
    """The first of so many free neighbours: the broker's controller listens after the broker."""
    return next(port for port in _shuffled_ports() if all(_is_free(port + n) for n in range(length)))


def _shuffled_ports() -> list[int]:
    return random.SystemRandom().sample(_CANDIDATES, len(_CANDIDATES))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
