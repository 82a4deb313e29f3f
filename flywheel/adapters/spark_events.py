"""Events as Spark sees them: the schema comes from the declaration, the rows from the broker or the lake."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from flywheel.adapters.spark_erasures import without_erased
from flywheel.contracts.events import Event
from flywheel.contracts.topics import event_topic
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.erasure import Erasures, Named, named_in
from flywheel.kernel.fields import required_fields

_JSON = {"mode": "PERMISSIVE", "allowSingleQuotes": "false", "allowNonNumericNumbers": "false"}
_TYPES: tuple[tuple[type, T.DataType], ...] = (
    (bool, T.BooleanType()),
    (int, T.LongType()),
    (float, T.DoubleType()),
    (str, T.StringType()),
    (datetime, T.TimestampType()),
)


def event_schema(event: type[Event]) -> T.StructType:
    """One column for each field of the event, in its order. TypeError for a type that has no column type."""
    return T.StructType(
        [T.StructField(name, _type_of(name, info.annotation)) for name, info in event.model_fields.items()]
    )


def envelope_schema(event: type[Event]) -> T.StructType:
    """The schema of an `Envelope` around that event."""
    return T.StructType(
        [
            T.StructField("event", event_schema(event)),
            T.StructField("ingest_time", T.TimestampType()),
            T.StructField("request_id", T.StringType()),
            T.StructField("backfilled", T.BooleanType()),
        ]
    )


def read_stream(
    session: SparkSession, bootstrap: str, usecase: str, events: Sequence[type[Event]], *, start: str = "earliest"
) -> DataFrame:
    """The raw records of the events' topics, as the Kafka source gives them; a new query begins at `start`.

    All that the broker holds comes in one micro-batch: a limit would be shared out over partitions by their backlog
    and let one topic run days ahead of another, whose events would then be late.
    """
    return (
        session.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", ",".join(event_topic(usecase, event.event_name).name for event in events))
        .option("startingOffsets", start)
        .option("failOnDataLoss", "true")
        .option("fetchOffset.numRetries", "30")
        .option("fetchOffset.retryIntervalMs", "1000")
        .load()
    )


def without_erased_records(records: DataFrame, usecase: UseCase, erasures: Erasures) -> DataFrame:
    """Records of `read_stream`, as they are, without those that name somebody erased after they arrived.

    A running query never reads old records again, so it is enough to give it what was known when it started.
    """
    if not erasures:
        return records
    named = [(event, one) for event in usecase.events for one in named_in(usecase, event)]
    read = records
    for event in usecase.events:
        topic = event_topic(usecase.name, event.event_name).name
        read = read.withColumn(f"_{event.event_name}", F.when(F.col("topic") == topic, envelope_of(event)))
    for event, one in named:
        arrived = F.col(f"_{event.event_name}.ingest_time")
        read = without_erased(read, [one], arrived, erasures, within=f"_{event.event_name}.event.")
    return read.drop(*(f"_{event.event_name}" for event in usecase.events))


def envelope_of(event: type[Event]) -> Column:
    """The envelope in a record's value; its event is null where the record is none of this event."""
    return F.from_json(F.col("value").cast("string"), envelope_schema(event), _JSON)


def is_event(event: type[Event], envelope: Column) -> Column:
    """Whether an envelope, as `envelope_of` gives it, has its arrival and every field that the event must have."""
    found = envelope["ingest_time"].isNotNull()
    for name in required_fields(event):
        found = found & envelope["event"][name].isNotNull()
    return F.coalesce(found, F.lit(False))


def read_archive(
    session: SparkSession, path: str, event: type[Event], erasures: Erasures | None = None, named: Sequence[Named] = ()
) -> DataFrame:
    """Archived events, each id once: as it arrived first. Beside their own fields they have `ingest_time`,
    `kafka_partition`, `kafka_offset` and `backfilled`, which files from before there was such a column leave false.

    Without those that name somebody erased, `named` in them: the lake has none, but one put back from a backup does.
    """
    fields = ["ingest_time", "kafka_partition", "kafka_offset", *event.model_fields, "backfilled"]
    arrival = F.struct(*fields)
    # Left to itself Spark takes the columns of any one file for those of all.
    rows = session.read.schema(_archive_schema(event)).parquet(path).fillna({"backfilled": False})
    if erasures:
        rows = without_erased(rows, named, F.col("ingest_time"), erasures)
    first = rows.groupBy("event_id").agg(F.min(arrival).alias("first"))
    return first.select(*(F.col(f"first.{name}").alias(name) for name in fields))


def _archive_schema(event: type[Event]) -> T.StructType:
    beside = (
        T.StructField("ingest_time", T.TimestampType()),
        T.StructField("kafka_partition", T.IntegerType()),
        T.StructField("kafka_offset", T.LongType()),
        T.StructField("backfilled", T.BooleanType()),
    )
    return T.StructType([*event_schema(event), *beside])


def _type_of(name: str, annotation: Any) -> T.DataType:
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (part for part in get_args(annotation) if part is not NoneType)
    if getattr(annotation, "__name__", "") == "AwareDatetime":
        return T.TimestampType()
    for python_type, spark_type in _TYPES:
        if isinstance(annotation, type) and issubclass(annotation, python_type):
            return spark_type
    raise TypeError(f"{name}: Spark has no column for {annotation!r}")
