"""Counts micro-batches into the online store: arrived events in, new states of their entities out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from flywheel.adapters.logs import logger
from flywheel.adapters.spark_arrivals import EVENT, OFFSET, PARTITION
from flywheel.contracts.metrics import FEATURES_FOREIGN_STATES
from flywheel.kernel.plan import FeaturePlan, TileView
from flywheel.kernel.ports import FeatureWriter, StateWrite, ViewKey
from flywheel.kernel.rows import MARK, Cells
from flywheel.kernel.state import Change, EntityState, ForeignState, apply, partition_of
from services.features.arrivals import changes
from services.features.patience import patiently

_EVENTS_AT_ONCE = 50_000
_STATES_AT_ONCE = 250
_BYTES_AT_ONCE = 1 << 20
"""While states are written, the store answers nobody else."""

_log = logger(__name__)

_Write = tuple[ViewKey, StateWrite]


class TileCounter:
    """Sink of the arrivals' query. A batch that comes again, after a crash at whatever point, changes nothing twice.

    `claim` is called before each batch and raises unless the store belongs to this stream. `backlog` says about how
    many events a batch may hold, None when that is not known yet: a big one is taken in parts, a small one at once
    because each part costs a job.
    """

    def __init__(
        self,
        plan: FeaturePlan,
        writer: FeatureWriter,
        *,
        claim: Callable[[], None],
        backlog: Callable[[], int | None],
        patience_s: float = 30.0,
    ) -> None:
        self._plan = plan
        self._writer = writer
        self._claim = claim
        self._backlog = backlog
        self._patience_s = patience_s

    def __call__(self, batch: DataFrame, _: int) -> None:
        self._patiently(self._claim)
        backlog = self._backlog()
        if backlog is not None and backlog <= _EVENTS_AT_ONCE:
            self.count(batch.toArrow())
            return
        batch.persist()
        try:
            for part in _parts(batch):
                self.count(part.toArrow())
        finally:
            batch.unpersist()

    def count(self, table: pa.Table) -> None:
        """Applies rows of `spark_arrivals.arrivals`, some hundred entities a step."""
        for view, found in changes(self._plan, table):
            pending = iter(found.items())
            while chunk := dict(islice(pending, _STATES_AT_ONCE)):
                self._patiently(partial(self._apply, view, chunk))

    def _patiently(self, step: Callable[[], None]) -> None:
        """Does a step again while the store is away: what it had written already, it finds applied.

        Raises Unavailable when the store stays away; the batch then fails and comes again.
        """
        patiently(step, self._patience_s, event="store_not_answering")

    def _apply(self, view: TileView, chunk: Mapping[ViewKey, Change]) -> None:
        # The edge may take events into a state meanwhile: then that state is read again.
        while chunk:
            chunk = self._conflicting(view, chunk)

    def _conflicting(self, view: TileView, chunk: Mapping[ViewKey, Change]) -> dict[ViewKey, Change]:
        """The changes that could not be written."""
        packed = [stored.state for stored in self._writer.read(list(chunk))]
        old = [self._unpacked(view, raw) for raw in packed]
        new, counted = apply(view, old, list(chunk.values()))
        writes = [
            (key, self._write(view, raw, after, rows))
            for key, raw, after, rows in zip(chunk, packed, new, counted, strict=True)
        ]
        return {key: chunk[key] for some in _by_bytes(writes) for key in self._writer.write(dict(some))}

    def _write(self, view: TileView, raw: bytes | None, after: EntityState, fresh: Cells) -> StateWrite:
        counted = self._plan.counted(view, partition_of(fresh[:, MARK]))
        return StateWrite(after.pack(view), after.newest_us, StateWrite.ending_of(raw), counted)

    def _unpacked(self, view: TileView, raw: bytes | None) -> EntityState:
        if raw is None:
            return EntityState.empty(view)
        try:
            return EntityState.unpack(view, raw)
        except ForeignState as error:
            # What it held is lost either way; refusing the whole batch would stop the counting of all entities.
            FEATURES_FOREIGN_STATES.labels(self._plan.usecase.name, view.name).inc()
            _log.error("state_replaced", view=view.name, reason=str(error))
            return EntityState.empty(view, lost=True)


def _by_bytes(writes: Sequence[_Write]) -> Iterator[list[_Write]]:
    """The writes in parts whose states are small enough together; one that is big by itself goes alone."""
    part: list[_Write] = []
    size = 0
    for write in writes:
        length = len(write[1].state)
        if part and size + length > _BYTES_AT_ONCE:
            yield part
            part, size = [], 0
        part.append(write)
        size += length
    if part:
        yield part


def _parts(batch: DataFrame) -> Iterator[DataFrame]:
    """The batch in parts of some ten thousand events, those of each partition in the order of their offsets."""
    bounds = (
        batch.groupBy(EVENT, PARTITION)
        .agg(F.min(OFFSET).alias("low"), F.max(OFFSET).alias("high"), F.count(F.lit(1)).alias("events"))
        .collect()
    )
    number = math.ceil(sum(row["events"] for row in bounds) / _EVENTS_AT_ONCE)
    if number <= 1:
        yield batch
        return
    part = F.coalesce(
        *(
            F.when(
                (F.col(EVENT) == row[EVENT]) & (F.col(PARTITION) == row[PARTITION]),
                F.floor((F.col(OFFSET) - row["low"]) * number / (row["high"] - row["low"] + 1)),
            )
            for row in bounds
        )
    )
    yield from (batch.where(part == index) for index in range(number))
