"""What runs more than once on this machine: the name of each and the ports of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from flywheel.contracts.settings import PlatformSettings

# Where each kind begins, counted from `replica_ports`: another number of one kind moves no other.
_SERVING_FROM = 0
_PORTS_A_REPLICA = 3
_EDGE_FROM = 40
_SPARK_FROM = 60
_PORTS_A_SPARK_DAEMON = 2
PORTS = 100
"""So many from `replica_ports` on may be used."""


@dataclass(frozen=True)
class ServingReplica:
    """One serving process: where it listens. `rest_address` is empty where serving speaks no HTTP."""

    name: str
    address: str
    rest_address: str
    metrics_port: int


@dataclass(frozen=True)
class SparkDaemon:
    """Spark's master or one of its workers: where it listens, and where it tells of itself in JSON."""

    name: str
    port: int
    page_port: int

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.page_port}/json/"


def is_balanced(settings: PlatformSettings) -> bool:
    """Whether clients reach serving through a balancer."""
    return settings.serving_replicas > 1


def serving_replicas(settings: PlatformSettings) -> tuple[ServingReplica, ...]:
    """Every serving process. The first has its metrics where the only one has them."""
    if not is_balanced(settings):
        alone = ServingReplica(
            "serving", settings.serving_address, settings.serving_rest_address, settings.serving_metrics_port
        )
        return (alone,)
    return tuple(_replica(settings, number) for number in range(settings.serving_replicas))


def serving_metrics_urls(settings: PlatformSettings) -> list[str]:
    """Where the metrics of all serving processes are."""
    return [f"http://127.0.0.1:{replica.metrics_port}/metrics" for replica in serving_replicas(settings)]


def _replica(settings: PlatformSettings, number: int) -> ServingReplica:
    first = settings.replica_ports + _SERVING_FROM + _PORTS_A_REPLICA * number
    return ServingReplica(
        name=f"serving-{number + 1}",
        address=f"127.0.0.1:{first}",
        rest_address=f"127.0.0.1:{first + 1}" if settings.serving_rest_address else "",
        metrics_port=first + 2 if number else settings.serving_metrics_port,
    )


def edge_replicas(settings: PlatformSettings) -> dict[str, int]:
    """Every process of the edge lane and the port of its metrics; that of the first is where the only one has it."""
    if settings.edge_replicas == 1:
        return {"edge": settings.edge_metrics_port}
    others = (settings.replica_ports + _EDGE_FROM + number for number in range(1, settings.edge_replicas))
    return {f"edge-{n + 1}": port for n, port in enumerate((settings.edge_metrics_port, *others))}


def spark_master(settings: PlatformSettings) -> SparkDaemon:
    """The master of the cluster that this machine runs."""
    return _spark_daemon(settings, "spark-master", 0)


def spark_workers(settings: PlatformSettings) -> tuple[SparkDaemon, ...]:
    """Its workers; none where this machine runs no cluster."""
    numbers = range(1, settings.spark_workers + 1)
    return tuple(_spark_daemon(settings, f"spark-worker-{number}", number) for number in numbers)


def _spark_daemon(settings: PlatformSettings, name: str, number: int) -> SparkDaemon:
    first = settings.replica_ports + _SPARK_FROM + _PORTS_A_SPARK_DAEMON * number
    return SparkDaemon(name, first, first + 1)


def ports_of(settings: PlatformSettings, ports: Iterable[int]) -> dict[str, int]:
    """Ports that follow from `replica_ports`, by the words that say how to move each."""
    return {f"FLYWHEEL_REPLICA_PORTS (its port + {port - settings.replica_ports})": port for port in ports}


def port_of(address: str) -> int:
    """The port of `host:port` or of a URL."""
    parts = urlsplit(address if "//" in address else f"//{address}")
    return parts.port or 80
