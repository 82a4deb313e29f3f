"""A standalone Spark cluster on this machine: a master, and workers of one core each.

`python -m infra.local.spark_cluster master`, or `worker 0` and on, becomes that daemon of this stack's cluster.
"""

from __future__ import annotations

import sys
from pathlib import Path

from flywheel.contracts.settings import PlatformSettings
from infra.local import places
from infra.local.becoming import become
from infra.local.java import java
from infra.local.scale import SparkDaemon, spark_master, spark_workers

HOST = "127.0.0.1"
WORKER_CORES = 1
WORKER_MEMORY_MIB = 1024
"""Heap of the executor that the features service has on each worker."""
_DAEMON_HEAP_MIB = 192
# A master that was killed knows its workers and applications again, and waits no longer for those that are gone.
_GONE_AFTER_S = 20


def url(settings: PlatformSettings) -> str:
    """What `SPARK_MASTER` is to be for this cluster."""
    return f"spark://{HOST}:{spark_master(settings).port}"


def directory_of(settings: PlatformSettings) -> Path:
    """Where the daemons and executors keep what they need while they run."""
    return settings.data_dir.absolute() / "spark-cluster"


def command(settings: PlatformSettings, daemon: SparkDaemon) -> list[str]:
    """The command that runs the daemon in the foreground until SIGTERM."""
    script = places.spark_jars().parent / "bin" / "spark-class"
    listens = ["--host", HOST, "--port", str(daemon.port), "--webui-port", str(daemon.page_port)]
    if daemon == spark_master(settings):
        return [str(script), "org.apache.spark.deploy.master.Master", *listens]
    size = ["--cores", str(WORKER_CORES), "--memory", f"{WORKER_MEMORY_MIB}m"]
    work = ["--work-dir", str(directory_of(settings) / daemon.name)]
    return [str(script), "org.apache.spark.deploy.worker.Worker", *listens, *size, *work, url(settings)]


def variables(settings: PlatformSettings) -> dict[str, str]:
    """What the daemons find in their environment."""
    directory = directory_of(settings)
    kept = {"recoveryMode": "FILESYSTEM", "recoveryDirectory": str(directory / "recovery")}
    return {
        "SPARK_HOME": str(places.spark_jars().parent),
        "JAVA_HOME": str(Path(java()).resolve().parents[1]),
        "SPARK_LOCAL_IP": HOST,
        "SPARK_DAEMON_MEMORY": f"{_DAEMON_HEAP_MIB}m",
        "SPARK_DAEMON_JAVA_OPTS": f"-XX:+UseSerialGC -Dspark.worker.timeout={_GONE_AFTER_S}",
        "SPARK_MASTER_OPTS": " ".join(f"-Dspark.deploy.{name}={value}" for name, value in kept.items()),
        "SPARK_LOCAL_DIRS": str(directory / "scratch"),
        # What executors of earlier starts wrote goes after an hour.
        "SPARK_WORKER_OPTS": "-Dspark.worker.cleanup.enabled=true -Dspark.worker.cleanup.appDataTtl=3600",
    }


def main(arguments: list[str]) -> None:
    """Becomes that daemon of the stack that the settings describe."""
    settings = PlatformSettings()
    match arguments:
        case ["master"]:
            daemon = spark_master(settings)
        case ["worker", number] if int(number) in range(settings.spark_workers):
            daemon = spark_workers(settings)[int(number)]
        case _:
            sys.exit(f"{' '.join(arguments)!r} is no daemon of a cluster with {settings.spark_workers} workers")
    directory_of(settings).mkdir(parents=True, exist_ok=True)
    become(lambda: command(settings, daemon), lambda: variables(settings))


if __name__ == "__main__":
    main(sys.argv[1:])
