"""A Spark session as every job of the platform runs in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import SparkSession

_ROOT = Path(__file__).resolve().parents[2]
# After a burst the heap is handed back to the machine.
_JAVA_OPTIONS = (
    "-XX:+UseG1GC -XX:G1PeriodicGCInterval=30000 -XX:MinHeapFreeRatio=10 -XX:MaxHeapFreeRatio=30 "
    "-XX:+ExitOnOutOfMemoryError"
)
_STATE_STORE = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"


def start_session(
    name: str,
    *,
    master: str = "local[4]",
    heap_mib: int = 1024,
    shuffle_partitions: int = 2,
    jars: Sequence[Path] = (),
    scratch_dir: Path | None = None,
) -> SparkSession:
    """A session that computes in UTC and keeps streaming state in RocksDB; the one of this process if there is one."""
    # Workers would otherwise run whichever Python comes first on the path.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    # Workers unpickle what the declaration names, wherever the driver was started.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    # Native memory of many threads would otherwise never be given back.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    if master.startswith("local"):
        # Without a name to resolve a laptop that changes networks keeps its session.
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder.appName(name).master(master)
    options = _configuration(heap_mib, shuffle_partitions, jars, scratch_dir) | _on_cluster(master)
    for key, value in options.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def _configuration(
    heap_mib: int, shuffle_partitions: int, jars: Sequence[Path], scratch_dir: Path | None
) -> dict[str, str]:
    options = {
        "spark.driver.memory": f"{heap_mib}m",
        "spark.driver.extraJavaOptions": _JAVA_OPTIONS,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.scheduler.mode": "FAIR",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(shuffle_partitions),
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.sources.partitionOverwriteMode": "dynamic",
        "spark.sql.streaming.stateStore.providerClass": _STATE_STORE,
        "spark.sql.streaming.stateStore.rocksdb.boundedMemoryUsage": "true",
        "spark.sql.streaming.stateStore.rocksdb.maxMemoryUsageMB": "192",
        # A commit then uploads what changed instead of whole tables.
        "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
        # State behind the watermark is dropped with the next data; a batch for that alone would delay it.
        "spark.sql.streaming.noDataMicroBatches.enabled": "false",
        "spark.sql.streaming.noDataProgressEventInterval": "1000",
        "spark.sql.streaming.minBatchesToRetain": "20",
        "spark.sql.streaming.metricsEnabled": "false",
        # Each tile collects its ids; below this many groups they are kept in a hash map instead of being sorted.
        "spark.sql.objectHashAggregate.sortBased.fallbackThreshold": "20000",
        # Python workers serve batch jobs alone, which are rare: they are not kept waiting for the next.
        "spark.python.worker.reuse": "false",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
    }
    if jars:
        options["spark.jars"] = ",".join(str(jar) for jar in jars)
    if scratch_dir is not None:
        options["spark.local.dir"] = str(scratch_dir)
    return options


def _on_cluster(master: str) -> dict[str, str]:
    """What executors elsewhere are told that share this process where there is no cluster."""
    if master.startswith("local"):
        return {}
    return {
        "spark.executorEnv.PYTHONPATH": os.environ["PYTHONPATH"],
        "spark.executorEnv.MALLOC_ARENA_MAX": os.environ["MALLOC_ARENA_MAX"],
        "spark.executor.extraJavaOptions": _JAVA_OPTIONS,
    }
