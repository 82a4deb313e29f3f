"""The one place that says which process runs, what it waits for, when it counts as ready, and what it may use."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import Field

from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.grpc_client import client_tls
from flywheel.adapters.redis_address import is_cluster
from flywheel.client.fitting_models import is_deployed
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel import catalog
from infra.local import balancer, broker, online_store, prometheus, redis_cluster, scale, spark_cluster
from infra.local.readiness import BrokerAnswers, GrpcServing, HttpReady, Probe, RedisAnswers, SparkWorkerRegistered
from infra.local.scale import ServingReplica, SparkDaemon, port_of
from services.serving.settings import ServingSettings

# Two cores are shared by everything: one thread a library and few malloc arenas keep memory and switching low.
_SHARED_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "2",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    # Nothing that runs here reports to anybody.
    "FEAST_USAGE": "False",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
# Where serving has workers, it kills those that do not end in time, and ends itself.
_WORKERS_SPARE_S = 5
# Of features and the edge behind it, while two executors more warm up on the same cores.
_ON_CLUSTER_WITHIN_S = 300


class MemoryCaps(PlatformSettings):
    """Caps that a larger machine may lift."""

    spark_heap_mib: int = Field(default=1024, gt=0)


@dataclass(frozen=True)
class Process:
    """Runs until it is stopped; started again when it dies, with back-off when that was soon.

    `ports`: the setting that moves each port, and the port.
    """

    name: str
    command: tuple[str, ...]
    after: tuple[str, ...]
    ready: Probe
    within_s: float
    address: str
    ports: Mapping[str, int]
    says: HttpReady | None = None
    """Where it says more of itself than whether it is ready; `status` shows it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    niceness: int = 0
    """How far it steps back where processors are scarce: decisions come before the stream."""
    stop_within_s: int = 15
    fails_within_s: int = 10
    """A death this soon is a failed start, and the next one waits a second longer each time; a later death does not.

    Longer than it takes, on a busy machine, to notice that what it waits for is away and to give up.
    """


@dataclass(frozen=True)
class Task:
    """Runs to its end once per start; `needed` says whether there is anything to do.

    `told_by`: the processes that do the work, whose logs tell how far it is; without any it tells so itself.
    """

    name: str
    command: tuple[str, ...]
    after: tuple[str, ...]
    within_s: float
    environment: Mapping[str, str] = field(default_factory=dict)
    needed: Callable[[], bool] = lambda: True
    told_by: tuple[str, ...] = ()


Step = Process | Task


def declaration(settings: PlatformSettings) -> tuple[Step, ...]:
    """Everything that `make up` runs for one stack, each step after those it waits for."""
    world = _world(settings) if settings.world_enabled else ()
    return (*_engines(settings), *_services(settings), *_observers(settings), *world)


def processes(steps: tuple[Step, ...]) -> tuple[Process, ...]:
    """Those that keep running."""
    return tuple(step for step in steps if isinstance(step, Process))


def environment(step: Step, settings: PlatformSettings) -> dict[str, str]:
    """What the step finds in its environment beside what it inherits."""
    return {**_SHARED_ENVIRONMENT, "FLYWHEEL_DATA_DIR": str(settings.data_dir.absolute()), **step.environment}


def _engines(settings: PlatformSettings) -> tuple[Step, ...]:
    node = broker.of(settings)
    return (
        Process(
            name="kafka",
            command=_module("infra.local.broker"),
            after=(),
            ready=BrokerAnswers(node.bootstrap),
            within_s=60,
            address=node.bootstrap,
            ports={
                "FLYWHEEL_KAFKA_BOOTSTRAP": node.port,
                "FLYWHEEL_KAFKA_BOOTSTRAP (its port + 1)": node.controller_port,
            },
            stop_within_s=30,
            fails_within_s=20,
        ),
        *_online_store(settings),
        Task(name="topics", command=_module("infra.local.topics"), after=("kafka",), within_s=60),
    )


def _store(settings: PlatformSettings) -> str:
    """The name of the step after which the online store is there."""
    return _online_store(settings)[-1].name


def _online_store(settings: PlatformSettings) -> tuple[Step, ...]:
    """What others wait for comes last."""
    if not is_cluster(settings.redis_url):
        redis_port = online_store.port_of(settings)
        return (
            Process(
                name="redis",
                command=_module("infra.local.online_store"),
                after=(),
                ready=RedisAnswers(redis_port),
                within_s=60,
                address=settings.redis_url,
                ports={"FLYWHEEL_REDIS_URL": redis_port},
            ),
        )
    nodes = [_cluster_node(place, port) for place, port in enumerate(redis_cluster.ports_of(settings), start=1)]
    form = _module("infra.local.redis_cluster", "form")
    return (*nodes, Task(name="redis-cluster", command=form, after=tuple(node.name for node in nodes), within_s=90))


def _cluster_node(place: int, port: int) -> Process:
    return Process(
        name=f"redis-{place}",
        command=_module("infra.local.redis_cluster", "node", str(port)),
        after=(),
        ready=RedisAnswers(port),
        within_s=60,
        address=f"127.0.0.1:{port}",
        ports={
            f"FLYWHEEL_REDIS_URL (address {place})": port,
            f"FLYWHEEL_REDIS_URL (address {place}, its port + 10000)": redis_cluster.bus_port_of(port),
        },
    )


def _services(settings: PlatformSettings) -> tuple[Step, ...]:
    return (
        Process(
            name="ingest",
            command=_module("services.ingest"),
            after=("topics",),
            ready=HttpReady(f"{settings.ingest_url}/readyz"),
            within_s=60,
            address=settings.ingest_url,
            ports={"FLYWHEEL_INGEST_URL": port_of(settings.ingest_url)},
        ),
        *_spark(settings),
        _features(settings),
        *_edge(settings),
        Task(name="feast", command=_module("services.features", "apply"), after=(_store(settings),), within_s=180),
        Process(
            name="trainer",
            command=_module("services.trainer"),
            after=("topics",),
            ready=HttpReady(f"http://127.0.0.1:{settings.trainer_metrics_port}/readyz"),
            within_s=120,
            address=f"http://127.0.0.1:{settings.trainer_metrics_port}/metrics",
            ports={"FLYWHEEL_TRAINER_METRICS_PORT": settings.trainer_metrics_port},
            environment={"OMP_NUM_THREADS": "2"},
            stop_within_s=30,
            fails_within_s=30,
        ),
        Process(
            name="monitor",
            command=_module("services.monitor"),
            after=("topics",),
            ready=HttpReady(f"{settings.monitor_url}/readyz"),
            within_s=120,
            address=settings.monitor_url,
            ports={"FLYWHEEL_MONITOR_URL": port_of(settings.monitor_url)},
            fails_within_s=30,
        ),
        *(_serving(settings, replica) for replica in scale.serving_replicas(settings)),
        *_balancer(settings),
    )


def _edge(settings: PlatformSettings) -> Iterator[Process]:
    """The edge lane: one process, or several that share the partitions."""
    for number, (name, port) in enumerate(scale.edge_replicas(settings).items()):
        ports = scale.ports_of(settings, [port]) if number else {"FLYWHEEL_EDGE_METRICS_PORT": port}
        own = {"FLYWHEEL_EDGE_REPLICA": str(number), "FLYWHEEL_EDGE_METRICS_PORT": str(port)}
        yield Process(
            name=name,
            command=_module("services.features.edge"),
            after=("topics", _store(settings)),
            ready=HttpReady(f"http://127.0.0.1:{port}/readyz"),
            # It waits for the tiles, which on a cluster wait for that.
            within_s=_ON_CLUSTER_WITHIN_S if settings.spark_workers else 120,
            address=f"http://127.0.0.1:{port}/metrics",
            ports=ports,
            environment=own if settings.edge_replicas > 1 else {},
        )


def _features(settings: PlatformSettings) -> Process:
    workers = scale.spark_workers(settings)
    master = {"FLYWHEEL_SPARK_MASTER": spark_cluster.url(settings), "SPARK_LOCAL_IP": spark_cluster.HOST}
    return Process(
        name="features",
        command=_module("services.features"),
        after=("topics", _store(settings), *(worker.name for worker in workers)),
        ready=HttpReady(f"http://127.0.0.1:{settings.features_metrics_port}/readyz"),
        within_s=_ON_CLUSTER_WITHIN_S if workers else 180,
        address=f"http://127.0.0.1:{settings.features_metrics_port}/metrics",
        ports={"FLYWHEEL_FEATURES_METRICS_PORT": settings.features_metrics_port},
        environment={"FLYWHEEL_SPARK_HEAP_MIB": str(MemoryCaps().spark_heap_mib), **(master if workers else {})},
        niceness=5,
        stop_within_s=40,
        fails_within_s=60,
    )


def _spark(settings: PlatformSettings) -> tuple[Process, ...]:
    """The Spark cluster of this machine, where there is one."""
    if not (workers := scale.spark_workers(settings)):
        return ()
    master = scale.spark_master(settings)

    def daemon(is_of: SparkDaemon, after: tuple[str, ...], ready: Probe, *arguments: str) -> Process:
        return Process(
            name=is_of.name,
            command=_module("infra.local.spark_cluster", *arguments),
            after=after,
            ready=ready,
            within_s=60,
            address=is_of.page,
            ports=scale.ports_of(settings, [is_of.port, is_of.page_port]),
            niceness=5,
            stop_within_s=20,
        )

    return (
        daemon(master, (), HttpReady(master.page), "master"),
        *(
            daemon(worker, (master.name,), SparkWorkerRegistered(master.page, worker.port), "worker", str(number))
            for number, worker in enumerate(workers)
        ),
    )


def _serving(settings: PlatformSettings, replica: ServingReplica) -> Process:
    """One serving process. Behind a balancer it has an address of its own, and gives notice before it stops."""
    grpc, metrics = port_of(replica.address), replica.metrics_port
    stop_within_s = math.ceil(ServingSettings().stop_within_s) + _WORKERS_SPARE_S
    ports = {"FLYWHEEL_SERVING_ADDRESS": grpc, **_rest_port(settings)}
    environment = {}
    if scale.is_balanced(settings):
        stop_within_s += math.ceil(balancer.NOTICE_S)
        rest = [port_of(replica.rest_address)] if replica.rest_address else []
        ports = scale.ports_of(settings, [grpc, *rest])
        environment = {
            "FLYWHEEL_SERVING_ADDRESS": replica.address,
            "FLYWHEEL_SERVING_REST_ADDRESS": replica.rest_address,
            "FLYWHEEL_SERVING_METRICS_PORT": str(metrics),
            "FLYWHEEL_SERVING_NOTICE_S": str(balancer.NOTICE_S),
        }
    if metrics == settings.serving_metrics_port:
        ports["FLYWHEEL_SERVING_METRICS_PORT"] = metrics
    else:
        ports |= scale.ports_of(settings, [metrics])
    return Process(
        name=replica.name,
        command=_module("services.serving"),
        after=("topics", _store(settings)),
        ready=GrpcServing(replica.address, client_tls(settings)),
        within_s=60,
        address=replica.address,
        ports=ports,
        says=HttpReady(f"http://127.0.0.1:{metrics}/readyz"),
        environment=environment,
        stop_within_s=stop_within_s,
    )


def _balancer(settings: PlatformSettings) -> tuple[Process, ...]:
    """What clients reach the replicas of serving by, where there are several."""
    if not scale.is_balanced(settings):
        return ()
    return (
        Process(
            name=balancer.NAME,
            command=_module("infra.local.balancer"),
            after=tuple(replica.name for replica in scale.serving_replicas(settings)),
            ready=GrpcServing(settings.serving_address),
            within_s=30,
            address=settings.serving_address,
            ports={"FLYWHEEL_SERVING_ADDRESS": port_of(settings.serving_address), **_rest_port(settings)},
        ),
    )


def _observers(settings: PlatformSettings) -> tuple[Step, ...]:
    """Prometheus, where its binary is."""
    if prometheus.binary(settings) is None:
        return ()
    url = prometheus.url(settings)
    return (
        Process(
            name=prometheus.NAME,
            command=_module("infra.local.prometheus"),
            after=("topics",),
            ready=HttpReady(f"{url}/-/ready"),
            within_s=60,
            address=url,
            ports={"FLYWHEEL_PROMETHEUS_PORT": settings.prometheus_port},
            niceness=5,
        ),
    )


def _world(settings: PlatformSettings) -> tuple[Step, ...]:
    usecase = settings.usecase
    models = FileModelStore(settings.model_dir)
    return (
        Task(
            name="history",
            command=_module("flywheel", "world", usecase, "--history-only"),
            after=("ingest",),
            within_s=900,
        ),
        Task(
            name="training",
            command=_module("flywheel", "train", usecase, "--wait", "--reason", "no model of these features yet"),
            after=("history", "features", *scale.edge_replicas(settings), "feast", "trainer"),
            within_s=900,
            needed=lambda: not is_deployed(models, catalog.load(usecase)),
            told_by=("features", "trainer"),
        ),
        Process(
            name="world",
            command=_module("flywheel", "world", usecase),
            after=("training", balancer.NAME if scale.is_balanced(settings) else "serving", "monitor"),
            ready=HttpReady(f"http://127.0.0.1:{settings.world_metrics_port}/readyz"),
            within_s=120,
            address=f"http://127.0.0.1:{settings.world_metrics_port}/metrics",
            ports={"FLYWHEEL_WORLD_METRICS_PORT": settings.world_metrics_port},
            stop_within_s=20,
            fails_within_s=30,
        ),
    )


def _rest_port(settings: PlatformSettings) -> dict[str, int]:
    address = settings.serving_rest_address
    return {"FLYWHEEL_SERVING_REST_ADDRESS": port_of(address)} if address else {}


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name, *arguments)
