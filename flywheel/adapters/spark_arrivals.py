"""Newly arrived events as a Spark streaming query: records in, each event once out, with what the views look at."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from flywheel.adapters.spark_events import envelope_of, is_event
from flywheel.contracts.events import Event
from flywheel.contracts.topics import event_topic
from flywheel.kernel.durations import SECOND_US, parse_duration
from flywheel.kernel.plan import FeaturePlan

PARSED = "parsed"
"""Name of the observation that counts records (`records`) and those that are no event (`unparsable`)."""

EVENT, TIME, TIE, PARTITION, OFFSET = ("event_name", "time_us", "tie", "partition", "offset")
_GOOD = "is_event"


def column_of(event: type[Event], field: str) -> str:
    """Name of the column that holds a field of an event; null in the rows of other events."""
    return f"{event.event_name}__{field}"


def fields_at(
    table: pa.Table, event: type[Event], fields: Iterable[str], places: NDArray[np.intp]
) -> dict[str, NDArray[Any]]:
    """Fields of an event in the rows at these places, by name; whole numbers stay whole, an absent one is None."""
    return {name: _values(table[column_of(event, name)].take(pa.array(places))) for name in fields}


def _values(column: pa.ChunkedArray) -> NDArray[Any]:
    # Arrow would turn them into doubles: 7 into 7.0, which is another id, and long ones into their neighbours.
    if pa.types.is_integer(column.type) and column.null_count:
        return np.array(column.to_pylist(), object)
    values: NDArray[Any] = column.to_numpy()
    return values


def arrivals(records: DataFrame, plan: FeaturePlan) -> DataFrame:
    """One row for each event: event_name, time_us, tie (id hash), partition, offset and the fields of the plan.

    `records` are those of `spark_events.read_stream`. Events later than the declared lateness, and ids that were seen
    within it, are dropped.
    """
    fields = [
        F.col(f"{event.event_name}.{name}").alias(column_of(event, name))
        for event in plan.events
        for name in plan.fields_of(event)
    ]
    return (
        _parsed(records, plan)
        .withWatermark("event_time", f"{parse_duration(plan.usecase.lateness) // SECOND_US} seconds")
        .dropDuplicatesWithinWatermark([EVENT, "event_id"])
        .select(EVENT, F.unix_micros("event_time").alias(TIME), tie(F.col(EVENT)), PARTITION, OFFSET, *fields)
    )


def tie(event_name: Column) -> Column:
    """`rows.event_hash` of a row with event_id, under the column TIE."""
    return F.xxhash64(F.concat_ws("/", event_name, "event_id")).alias(TIE)


def _parsed(records: DataFrame, plan: FeaturePlan) -> DataFrame:
    """Columns event_name, event_id, event_time, partition, offset and, under the event's name, its fields."""
    topics = {event: event_topic(plan.usecase.name, event.event_name).name for event in plan.events}
    envelopes = {
        event: F.when(F.col("topic") == topic, envelope_of(event)).alias(event.event_name)
        for event, topic in topics.items()
    }
    names = [F.when(F.col("topic") == topic, event.event_name) for event, topic in topics.items()]
    good = reduce(Column.__or__, (is_event(event, F.col(event.event_name)) for event in plan.events))
    fields = [F.col(f"{event.event_name}.event").alias(event.event_name) for event in plan.events]
    return (
        records.select(F.coalesce(*names).alias(EVENT), PARTITION, OFFSET, *envelopes.values())
        .withColumn(_GOOD, good)
        .select(EVENT, PARTITION, OFFSET, _GOOD, *fields)
        .withColumn("event_id", F.coalesce(*(F.col(f"{event.event_name}.event_id") for event in plan.events)))
        .withColumn("event_time", F.coalesce(*(F.col(f"{event.event_name}.event_time") for event in plan.events)))
        .observe(PARSED, F.count(F.lit(1)).alias("records"), F.count_if(~F.col(_GOOD)).alias("unparsable"))
        .where(_GOOD)
    )
