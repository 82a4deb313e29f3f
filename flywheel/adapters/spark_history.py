"""Feature history as a Spark batch: for every request event, the windowed features as they were known at its time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from flywheel.adapters.spark_arrivals import EVENT, TIE, TIME
from flywheel.adapters.spark_contributions import (
    ARRIVED,
    BACKFILLED,
    ID,
    KEY,
    by_entity,
    contributions,
    fixed_columns,
    joined,
    rows_at,
    runs,
    whole_entities,
)
from flywheel.contracts.events import Event
from flywheel.kernel.features import split_id
from flywheel.kernel.history import Moments, history, known_from, knows_until
from flywheel.kernel.plan import FeaturePlan, TileView
from flywheel.kernel.rows import MARK, Cells, in_time

_ASKED = "asked"


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
    return by_entity(frames, TIME, TIE).mapInArrow(_Computation(view, present), history_schema(view))


def _questions(plan: FeaturePlan, view: TileView, frame: DataFrame) -> DataFrame:
    """A row for each request event, under the entity that it is about."""
    request = plan.usecase.request
    key = joined(view.entity.request_keys)
    return frame.select(*fixed_columns(request, key), F.lit(True).alias(_ASKED)).where(F.col(KEY).isNotNull())


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
        keys, times, ties, arrived = (rows[name].to_numpy() for name in (KEY, TIME, TIE, ARRIVED))
        backfilled = rows[BACKFILLED].to_numpy()
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
        parts = [split_id(key) for key in rows[KEY].to_pylist()]
        keys = [pa.array([part[place] for part in parts], pa.string()) for place in range(len(self._view.entity.keys))]
        columns = [*keys, rows[TIME].cast(pa.timestamp("us", "UTC")), rows[ID]]
        columns += [pa.array(values[:, index]) for index in range(values.shape[1])]
        names = [*self._view.entity.keys, "event_timestamp", "event_id", *(f.name for f in self._view.features)]
        return pa.table(columns, names=names)
