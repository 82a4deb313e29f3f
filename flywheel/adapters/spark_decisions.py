"""Decisions in the lake: every one as it was answered, in Parquet, by the date of the decision and by micro-batch."""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from flywheel.adapters.lake_folder import StreamMarker, rows_by_batch
from flywheel.adapters.spark_erasures import without_erased
from flywheel.adapters.spark_rankings import parsed_rankings
from flywheel.contracts.topics import decisions_topic
from flywheel.kernel.erasure import Erasures, Named

_TEXTS = T.ArrayType(T.StringType())

DECISION_SCHEMA = T.StructType(
    [
        *(T.StructField(name, T.StringType()) for name in ("decision_id", "request_id", "usecase", "event_id")),
        *(T.StructField(name, T.TimestampType()) for name in ("event_time", "decided_at")),
        *(T.StructField(name, T.StringType()) for name in ("unit", "arm", "model_version")),
        T.StructField("score", T.DoubleType()),
        T.StructField("action", T.StringType()),
        T.StructField("reasons", _TEXTS),
        T.StructField("fallback", T.StringType()),
        T.StructField("feature_names", _TEXTS),
        T.StructField("features", T.ArrayType(T.DoubleType())),
        T.StructField("feature_status", T.MapType(T.StringType(), T.StringType())),
        T.StructField("feature_lag_ms", T.DoubleType()),
        T.StructField("feature_age_ms", T.MapType(T.StringType(), T.DoubleType())),
        T.StructField("stage_ms", T.MapType(T.StringType(), T.DoubleType())),
        T.StructField("value", T.DoubleType()),
        T.StructField("step", T.StringType()),
        T.StructField("propensity", T.DoubleType()),
        T.StructField("criticality", T.StringType()),
        T.StructField("writer", T.StringType()),
        T.StructField("sequence", T.LongType()),
        T.StructField("lost_before", T.LongType()),
    ]
)
"""A column for each field of `DecisionLogged`."""


class DecisionLake:
    """Archived decisions of one use case below `directory/<usecase>/decisions/decision_date=…/batch_id=…`.

    `entity`: the one that a decision's unit names, if it names one. Of a use case that `ranks` each candidate that was
    shown is a decision.
    """

    def __init__(self, directory: Path, usecase: str, entity: str | None, *, ranks: bool = False) -> None:
        self._parsed = parsed_rankings if ranks else _parsed
        self.path = directory.absolute() / usecase / "decisions"
        self._named: tuple[Named, ...] = ((entity, ("unit",)),) if entity else ()
        self.marker = StreamMarker(self.path)
        self._rows = rows_by_batch(self.path)

    def count(self) -> int:
        """Archived decisions, duplicates included."""
        return sum(self._rows.values())

    def write(self, records: DataFrame, batch_id: int, erasures: Erasures) -> None:
        """Archives a micro-batch of `read_decisions`; one that comes again leaves the lake as it was."""
        counted = Observation()
        rows = without_erased(_decisions(self._parsed(records), batch_id), self._named, F.col("decided_at"), erasures)
        # One file for each date: a lake of small files is slow to read.
        rows.coalesce(1).observe(counted, F.count(F.lit(1)).alias("rows")).write.mode("overwrite").partitionBy(
            "decision_date", "batch_id"
        ).parquet(str(self.path))
        self._rows[batch_id] = counted.get["rows"]


def read_decisions(session: SparkSession, bootstrap: str, usecase: str) -> DataFrame:
    """The raw records of the decisions' topic, from the oldest that it still holds."""
    return (
        session.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", decisions_topic(usecase).name)
        .option("startingOffsets", "earliest")
        # The topic forgets by age: after a long pause what is left is archived.
        .option("failOnDataLoss", "false")
        .option("fetchOffset.numRetries", "30")
        .option("fetchOffset.retryIntervalMs", "1000")
        .load()
    )


def _parsed(records: DataFrame) -> DataFrame:
    return records.select(
        F.from_json(F.col("value").cast("string"), DECISION_SCHEMA, {"mode": "PERMISSIVE"}).alias("decision"),
        "partition",
        "offset",
    )


def _decisions(parsed: DataFrame, batch_id: int) -> DataFrame:
    is_decision = F.col("decision.decision_id").isNotNull() & F.col("decision.decided_at").isNotNull()
    return parsed.where(is_decision).select(
        "decision.*",
        F.col("partition").alias("kafka_partition"),
        F.col("offset").alias("kafka_offset"),
        F.to_date("decision.decided_at").alias("decision_date"),
        F.lit(batch_id).alias("batch_id"),
    )
