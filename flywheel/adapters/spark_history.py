"""Feature history as a Spark batch: for every request event, the windowed features as they were known at its time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from flywheel.adapters.spark_arrivals import EVENT, TIE, TIME, column_of, fields_at, tie
from flywheel.contracts.events import Event
from flywheel.kernel.features import join_id, split_id
from flywheel.kernel.history import Moments, history, known_from, knows_until
from flywheel.kernel.plan import FeaturePlan, TileView
from flywheel.kernel.rows import MARK, Cells, in_time, rows_of

_KEY, _ID, _ARRIVED, _ASKED, _BACKFILLED = ("key", "event_id", "arrived_us", "asked", "backfilled")


def history_schema(view: TileView) -> T.StructType:
    """Columns of a view's history: the entity's keys, event_timestamp, event_id, then the features."""
    return T.StructType(
        [
            *(T.StructField(key, T.StringType()) for key in view.entity.keys),
            T.StructField("event_timestamp", T.TimestampType()),
            T.StructField("event_id", T.StringType()),
            *(T.StructField(feature.name, T.DoubleType()) for feature in view.features),
        ]
    )


def build_history(plan: FeaturePlan, view: TileView, events: Mapping[str, DataFrame]) -> DataFrame:
    """One row for each request event: `history_schema(view)`.

    `events` holds, by event name, a frame with the event's own columns, `ingest_time` and `backfilled`, each id once;
    an absent event never happened. Rows of one entity are computed together in one Python worker, which holds them in
    memory.
    """
    present = [event for event in view.events if event.event_name in events]
    frames = [contributions(view, event, events[event.event_name], F.lit(False).alias(_ASKED)) for event in present]
    frames += [_questions(plan, view, events[plan.usecase.request.event_name])]
    together = reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), frames)
    return (
        together.repartition(F.col(_KEY))
        .sortWithinPartitions(_KEY, TIME, TIE)
        .mapInArrow(_Computation(view, present), history_schema(view))
    )


def contributions(view: TileView, event: type[Event], frame: DataFrame, *more: Column) -> DataFrame:
    """A row for each entity that an event comes to, with the fields that the view looks at: key, event_name, time_us,
    tie, arrived_us, backfilled, event_id, `more`, then the fields."""
    ways = dict.fromkeys(intake.key_fields for intake in view.intakes if intake.event is event)
    fields = [F.col(name).alias(column_of(event, name)) for name in view.fields_of(event)]
    rows = frame.select(*_fixed(event, F.array(*(_joined(way) for way in ways))), *more, *fields)
    # An event that comes to one entity in two ways comes once; the worker finds both contributions.
    return rows.withColumn(_KEY, F.explode(F.array_distinct(F.array_compact(_KEY))))


def _questions(plan: FeaturePlan, view: TileView, frame: DataFrame) -> DataFrame:
    """A row for each request event, under the entity that it is about."""
    request = plan.usecase.request
    key = _joined(view.entity.request_keys)
    return frame.select(*_fixed(request, key), F.lit(True).alias(_ASKED)).where(F.col(_KEY).isNotNull())


def _fixed(event: type[Event], key: Column) -> list[Column]:
    return [
        key.alias(_KEY),
        F.lit(event.event_name).alias(EVENT),
        F.unix_micros("event_time").alias(TIME),
        tie(F.lit(event.event_name)),
        F.unix_micros("ingest_time").alias(_ARRIVED),
        F.col(_BACKFILLED),
        F.col("event_id").alias(_ID),
    ]


def _joined(fields: tuple[str, ...]) -> Column:
    """The entity's id as `features.join_id` makes it; null where a part is absent."""
    separator = join_id(["", ""])
    parts = [part for name in fields for part in (F.lit(separator), F.col(name).cast("string"))]
    return F.concat(*parts[1:])


class _Computation:
    """Turns a partition, sorted by key and time, into its history; can be sent to workers."""

    def __init__(self, view: TileView, events: list[type[Event]]) -> None:
        self._view = view
        self._events = events

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in whole_entities(batches):
            asked = rows[_ASKED].to_numpy()
            values = self._values(rows, asked)
            yield from self._table(rows.filter(pa.array(asked)), values).to_batches()

    def _values(self, rows: pa.Table, asked: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Of each row that is asked for, in their order."""
        keys, times, ties, arrived = (rows[name].to_numpy() for name in (_KEY, TIME, TIE, _ARRIVED))
        backfilled = rows[_BACKFILLED].to_numpy()
        known_us = knows_until(arrived, backfilled)
        owners, past = self._rows(rows, known_from(arrived, backfilled))
        found = []
        for first, last in pairwise([*runs(keys), len(keys)]):
            mine = np.flatnonzero(asked[first:last]) + first
            if len(mine):
                low, high = np.searchsorted(owners, [first, last])
                moments = Moments(times[mine], ties[mine], known_us[mine])
                found.append(history(self._view, in_time(past[low:high]), moments))
        return np.concatenate(found) if found else np.empty((0, len(self._view.features)))

    def _rows(self, table: pa.Table, marks: Any) -> tuple[Any, Cells]:
        """The events' rows of cells, and where in the table each came from, in that order."""
        names, asked = table[EVENT].to_numpy(), table[_ASKED].to_numpy()
        places, cells = [np.empty(0, np.intp)], [np.empty((0, self._view.row_cells), np.int64)]
        for event in self._events:
            mine = np.flatnonzero((names == event.event_name) & ~asked)
            rows = rows_at(self._view, event, table, mine)
            places.append(mine)
            cells.append(rows)
        where, rows = np.concatenate(places), np.concatenate(cells)
        order = np.argsort(where, kind="stable")
        where, rows = where[order], rows[order]
        rows[:, MARK] = marks[where]
        return where, rows

    def _table(self, rows: pa.Table, values: NDArray[np.float64]) -> pa.Table:
        parts = [split_id(key) for key in rows[_KEY].to_pylist()]
        keys = [pa.array([part[place] for part in parts], pa.string()) for place in range(len(self._view.entity.keys))]
        columns = [*keys, rows[TIME].cast(pa.timestamp("us", "UTC")), rows[_ID]]
        columns += [pa.array(values[:, index]) for index in range(values.shape[1])]
        names = [*self._view.entity.keys, "event_timestamp", "event_id", *(f.name for f in self._view.features)]
        return pa.table(columns, names=names)


def rows_at(view: TileView, event: type[Event], table: pa.Table, places: NDArray[np.intp]) -> Cells:
    """The row of cells of each of the event's `contributions` at these places; its mark is the place.

    ValueError when one contributes nothing to the entity that it stands under.
    """
    keys, times, ties = (table[name].take(pa.array(places)).to_numpy() for name in (_KEY, TIME, TIE))
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
        last = int(runs(batch[_KEY].to_numpy(zero_copy_only=False))[-1])
        continues = kept and kept[-1][_KEY][-1] == batch[_KEY][0]
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
