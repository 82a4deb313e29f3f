"""Entity states as a Spark batch: the state that the stream would hold, made of the archived events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from flywheel.adapters.spark_arrivals import EVENT
from flywheel.adapters.spark_contributions import (
    ARRIVED,
    KEY,
    by_entity,
    contributions,
    rows_at,
    runs,
    whole_entities,
)
from flywheel.contracts.events import Event
from flywheel.kernel.plan import FeaturePlan, TileView, counted_of
from flywheel.kernel.rows import MARK, Cells
from flywheel.kernel.state import OFFSET_BITS, Change, EntityState, apply, partition_of

STATE, NEWEST, COUNTED = ("state", "newest_us", "counted")
_MARK = "mark"

SCHEMA = T.StructType(
    [
        T.StructField(KEY, T.StringType()),
        T.StructField(STATE, T.BinaryType()),
        T.StructField(NEWEST, T.LongType()),
        T.StructField(COUNTED, T.MapType(T.StringType(), T.LongType())),
    ]
)


def build_states(
    plan: FeaturePlan, view: TileView, events: Mapping[str, DataFrame], reached: Mapping[int, int]
) -> DataFrame:
    """One row for each entity of the view: its id, packed state, newest event time, and how many events are in it by
    `<view>.<event>`.

    `events` holds, by event name, a frame with the event's own columns, `ingest_time`, `kafka_partition` and
    `kafka_offset`, each id once. `reached` are the marks, by partition, up to which they are complete; events beyond
    are left out.
    """
    present = [event for event in view.events if event.event_name in events]
    frames = [_below(plan, event, events[event.event_name], reached) for event in present]
    rows = [contributions(view, event, frame, F.col(_MARK)) for event, frame in zip(present, frames, strict=True)]
    return by_entity(rows, ARRIVED, _MARK).mapInArrow(_Computation(plan, view, present, dict(reached)), SCHEMA)


def _below(plan: FeaturePlan, event: type[Event], frame: DataFrame, reached: Mapping[int, int]) -> DataFrame:
    """The events below the marks, each with its own."""
    first = plan.partition(event.event_name, 0)
    limits = {partition - first: mark for partition, mark in reached.items() if partition >= first}
    mark = F.shiftleft(F.col("kafka_partition").cast("bigint") + F.lit(first), OFFSET_BITS).bitwiseOR(
        F.col("kafka_offset")
    )
    limit = F.coalesce(*(F.when(F.col("kafka_partition") == n, F.lit(m)) for n, m in limits.items()), F.lit(0))
    return frame.withColumn(_MARK, mark).where(F.col(_MARK) < limit)


class _Computation:
    """Turns a partition, sorted by key and arrival, into states; can be sent to workers."""

    def __init__(self, plan: FeaturePlan, view: TileView, events: list[type[Event]], reached: dict[int, int]) -> None:
        self._view = view
        self._events = events
        self._reached = reached
        self._counted = plan.events

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for table in whole_entities(batches):
            found = self._states(table)
            yield from pa.Table.from_pylist(found, _ARROW).to_batches()

    def _states(self, table: pa.Table) -> list[dict[str, Any]]:
        keys = table[KEY].to_numpy()
        rows = self._rows(table)
        bounds = [*runs(keys), len(keys)]
        changes = []
        for first, last in pairwise(bounds):
            mine = rows[first:last]
            partitions = np.unique(partition_of(mine[:, MARK])).tolist()
            changes.append(Change(mine, {p: self._reached[p] for p in partitions}))
        states, counted = apply(self._view, [EntityState.empty(self._view)] * len(changes), changes)
        return [
            {
                KEY: keys[first],
                STATE: state.pack(self._view),
                NEWEST: state.newest_us,
                COUNTED: list(counted_of(self._counted, self._view, partition_of(fresh[:, MARK])).items()),
            }
            for first, state, fresh in zip(bounds, states, counted, strict=False)
        ]

    def _rows(self, table: pa.Table) -> Cells:
        """A row of cells for each row of the table."""
        rows = np.empty((len(table), self._view.row_cells), np.int64)
        names = table[EVENT].to_numpy()
        for event in self._events:
            mine = np.flatnonzero(names == event.event_name)
            rows[mine] = rows_at(self._view, event, table, mine)
        rows[:, MARK] = table[_MARK].to_numpy()
        return rows


_ARROW = pa.schema(
    [
        (KEY, pa.string()),
        (STATE, pa.binary()),
        (NEWEST, pa.int64()),
        (COUNTED, pa.map_(pa.string(), pa.int64())),
    ]
)
