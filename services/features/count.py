"""Counts micro-batches into the online store: changed tiles in, absolute entity states out."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from flywheel.adapters.logs import logger
from flywheel.contracts.metrics import FEATURES_FOREIGN_STATES
from flywheel.kernel.plan import FeaturePlan, TileView
from flywheel.kernel.ports import FeatureWriter, Unavailable, ViewKey
from flywheel.kernel.tiles import RECENT_DTYPE, EntityState, ForeignState, apply

_ROWS_AT_ONCE = 100_000
_STATES_AT_ONCE = 500
_AGAIN_AFTER_S = 0.5

_log = logger(__name__)


@dataclass(frozen=True)
class Change:
    """What a micro-batch changed about one entity."""

    view: TileView
    key: ViewKey
    tiles: NDArray[np.void]
    recent: NDArray[np.void]
    newest_us: int


class TileCounter:
    """Sink of the tile query. A batch that comes again, after a crash at whatever point, changes nothing twice.

    `claim` is called before each batch and raises unless the store belongs to this stream. `backlog` says about how
    many events a batch may hold, None when that is not known yet: a big one is taken in parts, a small one at once
    because each part costs a job.
    `settled_us` is a moment before which the query will not let any event pass again.
    """

    def __init__(
        self,
        plan: FeaturePlan,
        writer: FeatureWriter,
        *,
        claim: Callable[[], None],
        backlog: Callable[[], int | None],
        settled_us: Callable[[], int],
        patience_s: float = 30.0,
    ) -> None:
        self._plan = plan
        self._writer = writer
        self._claim = claim
        self._backlog = backlog
        self._settled_us = settled_us
        self._patience_s = patience_s

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        self._patiently(self._claim)
        backlog = self._backlog()
        if backlog is not None and _parts(backlog * len(self._plan.views)) <= 1:
            self.count(batch.toArrow(), batch_id)
            return
        batch.persist()
        try:
            for part in _split(batch, _parts(batch.count())):
                self.count(part.toArrow(), batch_id)
        finally:
            batch.unpersist()

    def count(self, table: pa.Table, batch_id: int) -> None:
        """Applies rows of `spark_tiles.changed_tiles`, some hundred entities an atomic step."""
        pending = changes(self._plan, table)
        while chunk := list(islice(pending, _STATES_AT_ONCE)):
            self._patiently(partial(self._apply, chunk, batch_id))

    def _patiently(self, step: Callable[[], None]) -> None:
        """Does a step again while the store is away: what it had written already, it finds applied.

        Raises Unavailable when the store stays away; the batch then fails and comes again.
        """
        deadline_s = time.monotonic() + self._patience_s
        while True:
            try:
                return step()
            except Unavailable as error:
                if time.monotonic() > deadline_s:
                    raise
                _log.warning("store_not_answering", reason=str(error))
                time.sleep(_AGAIN_AFTER_S)

    def _apply(self, chunk: list[Change], batch_id: int) -> None:
        packed = self._writer.read([change.key for change in chunk])
        states: dict[ViewKey, tuple[bytes, int]] = {}
        counted: Counter[str] = Counter()
        settled_us = self._settled_us()
        for change, raw in zip(chunk, packed, strict=True):
            view = change.view
            old = self._unpacked(view, raw)
            new, numbers = apply(
                view,
                old,
                tiles=change.tiles,
                recent=change.recent,
                newest_us=change.newest_us,
                batch_id=batch_id,
                settled_us=settled_us,
            )
            if new is not old:
                states[change.key] = (new.pack(view), new.newest_us)
                counted.update({f"{view.name}.{event}": number for event, number in numbers.items() if number})
        if states:
            self._writer.write(states, counted)

    def _unpacked(self, view: TileView, raw: bytes | None) -> EntityState:
        if raw is None:
            return EntityState.empty(view)
        try:
            return EntityState.unpack(view, raw)
        except ForeignState as error:
            # What it held is lost either way; refusing the whole batch would stop the counting of all entities.
            FEATURES_FOREIGN_STATES.labels(self._plan.usecase.name, view.name).inc()
            _log.error("state_replaced", view=view.name, reason=str(error))
            return EntityState.empty(view)


def _parts(rows: int) -> int:
    return max(1, math.ceil(rows / _ROWS_AT_ONCE))


def _split(batch: DataFrame, parts: int) -> Iterator[DataFrame]:
    """The batch in parts, each entity whole in one of them."""
    bucket = F.pmod(F.xxhash64("view", "key"), F.lit(parts))
    return (batch.where(bucket == index) for index in range(parts))


def changes(plan: FeaturePlan, table: pa.Table) -> Iterator[Change]:
    """The table's rows by entity."""
    for view in plan.views:
        rows = table.filter(pa.compute.equal(table["view"], view.name))
        rows = rows.sort_by([("key", "ascending"), ("start_us", "ascending")]).combine_chunks()
        if rows.num_rows:
            yield from _view_changes(view, rows)


def _view_changes(view: TileView, rows: pa.Table) -> Iterator[Change]:
    tiles = _tiles(view, rows)
    newest_us = rows["newest_us"].to_numpy()
    ids = rows["id_hashes"].combine_chunks()
    lengths = pa.compute.list_value_length(ids).to_numpy()
    recent = np.empty(int(lengths.sum()), RECENT_DTYPE)
    recent["id_hash"] = ids.flatten().to_numpy()
    recent["start_us"] = np.repeat(tiles["start_us"], lengths)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    keys = rows["key"].to_pylist()
    firsts = [row for row, key in enumerate(keys) if row == 0 or key != keys[row - 1]]
    for first, last in zip(firsts, [*firsts[1:], len(keys)], strict=True):
        yield Change(
            view,
            ViewKey(view.name, keys[first]),
            tiles[first:last],
            recent[ends[first] : ends[last]],
            int(newest_us[first:last].max()),
        )


def _tiles(view: TileView, rows: pa.Table) -> NDArray[np.void]:
    tiles = np.empty(rows.num_rows, view.tile_dtype)
    tiles["start_us"] = rows["start_us"].to_numpy()
    for column in view.columns:
        values = rows[column].to_numpy()
        # No event of the field in the tile: nothing in the sum, and a minimum that any other one passes over.
        tiles[column] = np.nan_to_num(values, nan=0.0) if column.endswith("_sum") else values
    return tiles
