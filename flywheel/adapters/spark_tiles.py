"""The tile plan as a Spark streaming query: records in, absolute one-minute tiles of every entity out."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from flywheel.adapters.spark_events import envelope_of
from flywheel.contracts.events import Event
from flywheel.contracts.topics import event_topic
from flywheel.kernel.durations import SECOND_US, parse_duration
from flywheel.kernel.plan import STEPS_US, FeaturePlan, Measure, TileView

PARSED = "parsed"
"""Name of the observation that counts records (`records`) and those that are no event (`unparsable`)."""


def changed_tiles(records: DataFrame, plan: FeaturePlan) -> DataFrame:
    """One row for each tile that changed: view, key, start_us, newest_us, id_hashes and the plan's columns.

    `records` are those of `spark_events.read_stream`. Events later than the declared lateness, and ids that were seen
    within it, are dropped. A tile without events of a field holds null as that field's sum, minimum and maximum.
    """
    distinct = (
        _parsed(records, plan)
        .withWatermark("event_time", _seconds(parse_duration(plan.usecase.lateness)))
        .dropDuplicatesWithinWatermark(["event_name", "event_id"])
    )
    rows = distinct.select("event_time", "event_id", F.explode(_contributions(plan)).alias("row"))
    return _aggregated(rows.select("event_time", "event_id", "row.*").where(F.col("key").isNotNull()), plan)


def _parsed(records: DataFrame, plan: FeaturePlan) -> DataFrame:
    """Columns event_name, event_id, event_time and, under the event's name, its fields."""
    topics = {event: event_topic(plan.usecase.name, event.event_name).name for event in plan.events}
    fields = {
        event: F.when(F.col("topic") == topic, envelope_of(event)["event"]).alias(event.event_name)
        for event, topic in topics.items()
    }
    names = [F.when(F.col("topic") == topic, event.event_name) for event, topic in topics.items()]
    is_event = F.col("event_id").isNotNull() & F.col("event_time").isNotNull()
    return (
        records.select(F.coalesce(*names).alias("event_name"), *fields.values())
        .withColumn("event_id", F.coalesce(*(F.col(f"{event.event_name}.event_id") for event in fields)))
        .withColumn("event_time", F.coalesce(*(F.col(f"{event.event_name}.event_time") for event in fields)))
        .observe(PARSED, F.count(F.lit(1)).alias("records"), F.count_if(~is_event).alias("unparsable"))
        .where(is_event)
    )


def _contributions(plan: FeaturePlan) -> Column:
    """What an event adds, as an array: one row for each view that it belongs to."""
    by_event = [
        F.when(
            F.col("event_name") == event.event_name,
            F.array(*(_contribution(event, view, plan) for view in plan.views if event in view.events)),
        )
        for event in plan.events
    ]
    return F.coalesce(*by_event)


def _contribution(event: type[Event], view: TileView, plan: FeaturePlan) -> Column:
    values = [
        (
            F.lit(None) if measure.event is not event or measure not in view.measures
            # A count counts what is not null.
            else F.lit(1) if measure.field is None
            else F.col(f"{event.event_name}.{measure.field}")
        )
        .cast("int" if measure.field is None else _number(measure))
        .alias(_source(measure))
        for measure in _measures(plan)
    ]  # fmt: skip
    key = F.col(f"{event.event_name}.{view.entity.key}")
    return F.struct(F.lit(view.name).alias("view"), key.alias("key"), *values)


def _aggregated(rows: DataFrame, plan: FeaturePlan) -> DataFrame:
    finest = F.window("event_time", _seconds(STEPS_US[0]))
    aggregates = [aggregate for measure in _measures(plan) for aggregate in _aggregates(measure)]
    return (
        rows.groupBy("view", "key", finest.alias("tile"))
        .agg(
            F.max(F.unix_micros("event_time")).alias("newest_us"),
            F.collect_set(F.xxhash64("event_id")).alias("id_hashes"),
            *aggregates,
        )
        .withColumn("start_us", F.unix_micros("tile.start"))
        .drop("tile")
    )


def _measures(plan: FeaturePlan) -> tuple[Measure, ...]:
    return tuple(dict.fromkeys(measure for view in plan.views for measure in view.measures))


def _aggregates(measure: Measure) -> list[Column]:
    source = _source(measure)
    if measure.field is None:
        return [F.count(source).alias(measure.columns[0])]
    # Whole numbers are added as such and are exact whatever the order.
    totals = (F.sum(source), F.min(source), F.max(source))
    return [total.cast("double").alias(name) for total, name in zip(totals, measure.columns, strict=True)]


def _source(measure: Measure) -> str:
    return f"{measure.event.event_name}.{measure.field or 'n'}".replace(".", "__")


def _number(measure: Measure) -> str:
    annotation = measure.event.model_fields[str(measure.field)].annotation
    return "bigint" if annotation is int else "double"


def _seconds(duration_us: int) -> str:
    return f"{duration_us // SECOND_US} seconds"
