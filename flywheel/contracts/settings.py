"""Where the parts of the platform find each other. Every process reads the same settings from the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from flywheel.contracts.topics import EVENT_PARTITIONS


class PlatformSettings(BaseSettings):
    """Addresses and places shared by all processes; `FLYWHEEL_<NAME>` in the environment or in `.env` overrides one.

    The defaults are those of one machine; on a cluster the same names point elsewhere.
    """

    model_config = SettingsConfigDict(
        env_prefix="FLYWHEEL_", env_file=".env", extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    usecase: str = "fraud"
    """The declaration that the processes run, by its folder below `usecases`."""
    data_dir: Path = Path("data")
    """Lake, feature history, checkpoints, Feast's registry, models and, on one machine, the engines' files."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""

    world_enabled: bool = True
    """Whether the use case's simulated world plays. Its clock runs in the past, so ingest then keeps every event near
    the newest one; without it, event times only have to lie before the wall clock."""

    kafka_bootstrap: str = "127.0.0.1:19092"
    """Brokers to begin with, `host:port`, several separated by commas."""
    redis_url: str = "redis://127.0.0.1:16379/0"
    """The online feature store: `redis[s]://[user:password@]host:port/database`, or nodes of a Redis Cluster to begin
    with, `redis[s]+cluster://[user:password@]host:port,host:port,host:port`."""
    attributes_memory_mib: int = Field(default=512, gt=0)
    """For bringing attributes online from their loads, by the command or a rebuild; what does not fit is spilled to
    disk."""
    mlflow_uri: str = ""
    """Tracking and registry store; empty means sqlite below `data_dir`."""

    ingest_url: str = "http://127.0.0.1:8081"
    """Where ingest listens, and where clients send events."""
    serving_address: str = "127.0.0.1:50051"
    """Where serving listens for gRPC, and where clients ask."""
    serving_rest_address: str = "127.0.0.1:8082"
    """Where serving listens for HTTP: decisions, and models by the Open Inference Protocol. Empty: nowhere."""
    client_tls_ca: Path | None = None
    """Certificates (PEM) by which clients know serving: with them commands, the world and `make up` speak TLS to it."""
    client_tls_certificate: Path | None = None
    """Certificate (PEM) by which serving knows clients, where it asks for one."""
    client_tls_key: Path | None = None
    """Its private key (PEM, without a passphrase)."""
    monitor_url: str = "http://127.0.0.1:8080"
    """Where the monitor serves the console and its metrics."""

    metrics_host: str = "127.0.0.1"
    """Where processes that serve no HTTP themselves answer for their metrics and health; in a container `0.0.0.0`."""
    features_metrics_port: int = 9101
    """`/metrics`, `/healthz` and `/readyz` of the features service."""
    edge_metrics_port: int = 9105
    """The same of the edge lane."""
    serving_metrics_port: int = 9102
    """The same of serving."""
    trainer_metrics_port: int = 9103
    """The same of the trainer."""
    world_metrics_port: int = 9104
    """The same of the simulated world."""
    prometheus: str = ""
    """Prometheus' binary, which `make up` runs beside the stack; empty: the one on PATH, if there is one; `off`:
    none."""
    prometheus_port: int = 19090
    """Where that Prometheus has its pages."""
    prometheus_kept: str = "7d"
    """How long it keeps what it scraped, at most 2 GB of it."""

    serving_replicas: int = Field(default=1, ge=1, le=8)
    """Serving processes that `make up` runs, each with ports of its own; more than one behind HAProxy, which then
    listens where clients ask."""
    event_partitions: int = Field(default=EVENT_PARTITIONS, ge=1, le=1_024)
    """Of the topics of events and of decisions. `make up` adds what a topic lacks; Kafka takes none away."""
    edge_replicas: int = Field(default=1, ge=1, le=8)
    """Processes of the edge lane, which share the partitions; `make up` runs them."""
    edge_replica: int = Field(default=0, ge=0)
    """Which of them a process is, from 0 on."""
    spark_workers: int = Field(default=0, ge=0, le=8)
    """Workers of a Spark cluster that `make up` runs, each of one core and one GiB of heap; the features service then
    computes on them. 0: it computes in its own process, or on the cluster that `SPARK_MASTER` names."""
    replica_ports: int = Field(default=18_100, ge=1_024, le=65_000)
    """Where `make up` has what runs more than once listen: ports from this one on, less than a hundred."""
    haproxy: str = ""
    """HAProxy's binary, for several replicas of serving; empty: the one on PATH."""

    tracing_endpoint: str = ""
    """Where traces go, a collector that speaks OTLP over HTTP such as `http://127.0.0.1:4318`; empty: nowhere."""
    tracing_share: float = Field(default=0.01, ge=0, le=1)
    """Of the traces that begin here; one that comes with a `traceparent` is kept or not as its beginner chose."""

    pseudonym_key: str = Field(default="local-development-key", repr=False)
    """Keys the hash under which personal fields appear in logs; set it on any shared machine."""
    erasure_key: str = Field(default="local-development-key", repr=False)
    """Keys the hash under which erased persons are remembered so that no replay brings them back. Set it on any shared
    machine before the first erasure and never change it: under another key nobody erased is recognized."""

    @property
    def lake_dir(self) -> Path:
        return self.data_dir / "lake"

    @property
    def history_dir(self) -> Path:
        """Feature history for training, written by the features service, read through Feast."""
        return self.data_dir / "history"

    @property
    def checkpoint_dir(self) -> Path:
        return self.data_dir / "checkpoints"

    @property
    def feast_dir(self) -> Path:
        return self.data_dir / "feast"

    @property
    def model_dir(self) -> Path:
        return self.data_dir / "models"

    @property
    def mlflow_store(self) -> str:
        return self.mlflow_uri or f"sqlite:///{(self.data_dir / 'mlflow' / 'mlflow.db').absolute()}"
