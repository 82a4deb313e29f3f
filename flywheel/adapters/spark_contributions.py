"""What events contribute to entities, as Spark rows: brought together by entity, and read as cells by the workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from flywheel.adapters.spark_arrivals import EVENT, TIE, TIME, column_of, fields_at, tie
from flywheel.contracts.events import Event
from flywheel.kernel.features import join_id
from flywheel.kernel.plan import TileView
from flywheel.kernel.rows import MARK, Cells, rows_of

KEY, ID, ARRIVED, BACKFILLED = ("key", "event_id", "arrived_us", "backfilled")


def contributions(view: TileView, event: type[Event], frame: DataFrame, *more: Column) -> DataFrame:
    """A row for each entity that an event comes to, with the fields that the view looks at: key, event_name, time_us,
    tie, arrived_us, backfilled, event_id, `more`, then the fields."""
    ways = dict.fromkeys(intake.key_fields for intake in view.intakes if intake.event is event)
    fields = [F.col(name).alias(column_of(event, name)) for name in view.fields_of(event)]
    rows = frame.select(*fixed_columns(event, F.array(*(joined(way) for way in ways))), *more, *fields)
    # An event that comes to one entity in two ways comes once; the worker finds both contributions.
    return rows.withColumn(KEY, F.explode(F.array_distinct(F.array_compact(KEY))))


def by_entity(frames: Sequence[DataFrame], *order: str) -> DataFrame:
    """The rows of all frames; those of one entity in one partition, one after the other, in the order of columns."""
    together = reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), frames)
    return together.repartition(F.col(KEY)).sortWithinPartitions(KEY, *order)


def fixed_columns(event: type[Event], key: Column) -> list[Column]:
    """The columns of a contribution that are there whatever the view looks at."""
    return [
        key.alias(KEY),
        F.lit(event.event_name).alias(EVENT),
        F.unix_micros("event_time").alias(TIME),
        tie(F.lit(event.event_name)),
        F.unix_micros("ingest_time").alias(ARRIVED),
        F.col(BACKFILLED),
        F.col("event_id").alias(ID),
    ]


def joined(fields: tuple[str, ...]) -> Column:
    """The entity's id as `features.join_id` makes it; null where a part is absent."""
    separator = join_id(["", ""])
    parts = [part for name in fields for part in (F.lit(separator), F.col(name).cast("string"))]
    return F.concat(*parts[1:])


def rows_at(view: TileView, event: type[Event], table: pa.Table, places: NDArray[np.intp]) -> Cells:
    """The row of cells of each of the event's `contributions` at these places; its mark is the place.

    ValueError when one contributes nothing to the entity that it stands under.
    """
    keys, times, ties = (table[name].take(pa.array(places)).to_numpy() for name in (KEY, TIME, TIE))
    order = np.arange(len(places))
    # The mark carries the place through: the same event stands under every entity that it comes to.
    ids, made = rows_of(view, event, fields_at(table, event, view.fields_of(event), places), times, ties, order)
    right = [keys[place] == entity for place, entity in zip(made[:, MARK].tolist(), ids, strict=True)]
    rows = made[np.array(right, np.bool_)]
    rows = rows[np.argsort(rows[:, MARK], kind="stable")]
    if not np.array_equal(rows[:, MARK], order):
        raise ValueError(f"{view.name}: Spark writes an id of {event.event_name} otherwise than the kernel does")
    rows[:, MARK] = places
    return rows


def whole_entities(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The sorted rows in tables that each hold all rows of their entities."""
    kept: list[pa.RecordBatch] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        last = int(runs(batch[KEY].to_numpy(zero_copy_only=False))[-1])
        continues = kept and kept[-1][KEY][-1] == batch[KEY][0]
        if last or not continues:
            whole = [*kept, batch.slice(0, last)]
            if any(part.num_rows for part in whole):
                yield pa.Table.from_batches(whole).combine_chunks()
            kept = []
        kept.append(batch.slice(last))
    if kept:
        yield pa.Table.from_batches(kept).combine_chunks()


def runs(keys: NDArray[np.object_]) -> NDArray[np.intp]:
    """Where each run of equal keys begins."""
    return np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
