"""Feature history as a Spark batch: for every request event, the windowed features as of its own time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from flywheel.contracts.events import Event
from flywheel.kernel.history import PastEvents, Values, history
from flywheel.kernel.plan import FeaturePlan, TileView

_FIXED = _KEY, _TIME, _EVENT, _ID = ("key", "time_us", "event_name", "event_id")


def history_schema(view: TileView) -> T.StructType:
    """Columns of a view's history: the entity's key, event_timestamp, event_id, then the features."""
    return T.StructType(
        [
            T.StructField(view.entity.key, T.StringType()),
            T.StructField("event_timestamp", T.TimestampType()),
            T.StructField("event_id", T.StringType()),
            *(T.StructField(feature.name, T.DoubleType()) for feature in view.features),
        ]
    )


def build_history(plan: FeaturePlan, view: TileView, events: Mapping[str, DataFrame]) -> DataFrame:
    """One row for each request event: `history_schema(view)`.

    `events` holds, by event name, a frame with the event's own columns, each id once; an absent event never happened.
    Rows of one entity are computed together in one Python worker, which holds them in memory.
    """
    frames = [_contributions(view, event, events[event.event_name]) for event in _events(plan, view, events)]
    together = frames[0]
    for frame in frames[1:]:
        together = together.unionByName(frame, allowMissingColumns=True)
    return (
        together.repartition(F.col(_KEY))
        .sortWithinPartitions(_KEY, _TIME)
        .mapInArrow(_Computation(view, plan.usecase.request.event_name), history_schema(view))
    )


def _events(plan: FeaturePlan, view: TileView, events: Mapping[str, DataFrame]) -> list[type[Event]]:
    needed = dict.fromkeys((plan.usecase.request, *view.events))
    return [event for event in needed if event.event_name in events]


def _contributions(view: TileView, event: type[Event], frame: DataFrame) -> DataFrame:
    fields = [m.field for m in view.measures if m.event is event and m.field is not None]
    return frame.where(F.col(view.entity.key).isNotNull()).select(
        F.col(view.entity.key).alias(_KEY),
        F.unix_micros("event_time").alias(_TIME),
        F.lit(event.event_name).alias(_EVENT),
        F.col("event_id").alias(_ID),
        *(F.col(name).alias(f"{event.event_name}__{name}") for name in fields),
    )


class _Computation:
    """Turns a partition, sorted by key and time, into its history; can be sent to workers."""

    def __init__(self, view: TileView, request: str) -> None:
        self._view = view
        self._request = request

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in _whole_entities(batches):
            requests = rows[_EVENT].to_numpy() == self._request
            values = self._values(rows)[requests]
            yield from self._table(rows.filter(pa.array(requests)), values).to_batches()

    def _values(self, rows: pa.Table) -> NDArray[np.float64]:
        """Of each row that is a request; the others' stay undefined."""
        names, times = rows[_EVENT].to_numpy(), rows[_TIME].to_numpy()
        fields = {name: rows[name].to_numpy() for name in rows.column_names if name not in _FIXED}
        values = np.empty((rows.num_rows, len(self._view.features)))
        bounds = [*_firsts(rows[_KEY].to_numpy()), rows.num_rows]
        for first, last in pairwise(bounds):
            past = {}
            for event in self._view.events:
                mine = np.flatnonzero(names[first:last] == event.event_name) + first
                past[event.event_name] = PastEvents(times[mine], _fields(event, fields, mine))
            asked = np.flatnonzero(names[first:last] == self._request) + first
            values[asked] = history(self._view, past, times[asked])
        return values

    def _table(self, rows: pa.Table, values: NDArray[np.float64]) -> pa.Table:
        columns = [rows[_KEY], rows[_TIME].cast(pa.timestamp("us", "UTC")), rows[_ID]]
        columns += [pa.array(values[:, index]) for index in range(values.shape[1])]
        names = [self._view.entity.key, "event_timestamp", "event_id", *(f.name for f in self._view.features)]
        return pa.table(columns, names=names)


def _whole_entities(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The sorted rows in tables that each hold all rows of their entities."""
    kept: list[pa.RecordBatch] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        last = int(_firsts(batch[_KEY].to_numpy(zero_copy_only=False))[-1])
        continues = kept and kept[-1][_KEY][-1] == batch[_KEY][0]
        if last or not continues:
            whole = [*kept, batch.slice(0, last)]
            if any(part.num_rows for part in whole):
                yield pa.Table.from_batches(whole).combine_chunks()
            kept = []
        kept.append(batch.slice(last))
    if kept:
        yield pa.Table.from_batches(kept).combine_chunks()


def _firsts(keys: NDArray[np.object_]) -> NDArray[np.intp]:
    """Where each run of equal keys begins."""
    return np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))


def _fields(event: type[Event], fields: Mapping[str, Values], mine: NDArray[np.intp]) -> dict[str, Values]:
    found: dict[str, Values] = {}
    for name, values in fields.items():
        owner, _, field = name.partition("__")
        if owner == event.event_name:
            own = values[mine]
            # Rows of other events are null here, which made floats of whole numbers.
            whole = event.model_fields[field].annotation is int and not np.isnan(own).any()
            found[field] = own.astype(np.int64) if whole else own.astype(np.float64)
    return found
