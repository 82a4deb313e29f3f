"""The state of an entity: tiles of mergeable aggregates, packed into one value and folded when a decision reads it.

A tile covers `start_us <= event_time < start_us + step`. The stream replaces whole tiles by absolute newer ones and
never adds to them, so that replay is harmless; a quiet entity decays by itself, because windows are cut when they are
read.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray

from flywheel.kernel.features import Statistic, WindowedFeature
from flywheel.kernel.plan import TileView, column_of

Tiles = NDArray[np.void]
"""Structured rows of `TileView.tile_dtype`, sorted by `start_us`, each start once."""

Moment = TypeVar("Moment", int, NDArray[np.int64])

RECENT_DTYPE = np.dtype([("start_us", "<i8"), ("id_hash", "<i8")])
RECENT_LIMIT = 64
"""How many of an entity's newest events are remembered by id, to tell whether a request's own event was counted."""

_HEADER = struct.Struct("<4sQqqH")
_MAGIC = b"FWT1"


class ForeignState(ValueError):
    """The bytes are no state of this view: corrupt, or written under another declaration."""


def id_hash(event_id: str) -> int:
    """Signed 64-bit hash of an event id; equals Spark's `xxhash64`.

    >>> id_hash("1")
    -928762887014768240
    """
    unsigned = xxhash.xxh64_intdigest(event_id.encode(), seed=42)
    return unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned


@dataclass(frozen=True)
class EntityState:
    """Everything kept about one entity of a view.

    `batch_id` is the micro-batch that wrote it last; one that comes again finds itself applied already.
    """

    lanes: tuple[Tiles, ...]
    recent: NDArray[np.void]
    newest_us: int
    batch_id: int

    @classmethod
    def empty(cls, view: TileView) -> EntityState:
        return cls(
            lanes=tuple(np.empty(0, view.tile_dtype) for _ in view.lanes),
            recent=np.empty(0, RECENT_DTYPE),
            newest_us=0,
            batch_id=-1,
        )

    def pack(self, view: TileView) -> bytes:
        """Bytes that `unpack` reads back."""
        lengths = [len(lane) for lane in self.lanes]
        return b"".join(
            (
                _HEADER.pack(_MAGIC, view.fingerprint, self.newest_us, self.batch_id, len(self.recent)),
                struct.pack(f"<{len(lengths)}I", *lengths),
                self.recent.tobytes(),
                *(lane.tobytes() for lane in self.lanes),
            )
        )

    @classmethod
    def unpack(cls, view: TileView, raw: bytes) -> EntityState:
        """The state packed in `raw`, without copying it. Raises ForeignState."""
        lane_count = len(view.lanes)
        start = _HEADER.size + 4 * lane_count
        if len(raw) < start:
            raise ForeignState(f"{view.name}: {len(raw)} bytes are too short for a state")
        magic, fingerprint, newest_us, batch_id, recent_length = _HEADER.unpack_from(raw)
        if magic != _MAGIC or fingerprint != view.fingerprint:
            raise ForeignState(f"{view.name}: written under another declaration")
        lengths = struct.unpack_from(f"<{lane_count}I", raw, _HEADER.size)
        size = start + recent_length * RECENT_DTYPE.itemsize + sum(lengths) * view.tile_dtype.itemsize
        if len(raw) != size:
            raise ForeignState(f"{view.name}: {len(raw)} bytes where {size} were announced")
        recent = np.frombuffer(raw, RECENT_DTYPE, recent_length, start)
        position = start + recent.nbytes
        lanes = []
        for length in lengths:
            lane = np.frombuffer(raw, view.tile_dtype, length, position)
            position += lane.nbytes
            lanes.append(lane)
        return cls(tuple(lanes), recent, newest_us, batch_id)


def apply(
    view: TileView,
    state: EntityState,
    *,
    tiles: Tiles,
    recent: NDArray[np.void],
    newest_us: int,
    batch_id: int,
    settled_us: int | None = None,
) -> tuple[EntityState, dict[str, int]]:
    """The state after a micro-batch, and how many events it newly counted, by event name.

    `tiles` are absolute tiles of the finest size, `recent` the ids of the events in them (`RECENT_DTYPE`), and
    `newest_us` the newest event time among them. A batch that the state has seen changes nothing and counts nothing.
    No later batch brings an event from before `settled_us`; unless it is said, none later than the declared lateness
    behind the entity's newest.
    """
    if batch_id <= state.batch_id:
        return state, {}
    fresh = np.sort(tiles, order="start_us")
    newest_us = max(newest_us, state.newest_us)
    counted = _newly_counted(view, state.lanes[0], fresh)
    lanes = [_replace(state.lanes[0], fresh)]
    changed = fresh["start_us"]
    for coarser, lane in zip(state.lanes[1:], view.lanes[1:], strict=True):
        merged = _coarsen(view, lanes[-1], changed, lane.step_us)
        lanes.append(_replace(coarser, merged))
        changed = merged["start_us"]
    kept = tuple(_trim(view, index, lanes[index], newest_us, settled_us) for index in range(len(lanes)))
    return EntityState(kept, _remember(state.recent, recent), newest_us, batch_id), counted


def _replace(old: Tiles, new: Tiles) -> Tiles:
    survivors = old[~np.isin(old["start_us"], new["start_us"])]
    return np.sort(np.concatenate([survivors, new]), order="start_us")


# A tile without events of a field holds NaN as its minimum and maximum: fmin and fmax pass over it.
_MERGES = {"_min": np.fmin, "_max": np.fmax}


def _merge_of(column: str) -> np.ufunc:
    return _MERGES.get(column[-4:], np.add)


def _coarsen(view: TileView, finer: Tiles, changed: NDArray[np.int64], step_us: int) -> Tiles:
    """The tiles of `step_us` around the `changed` starts, merged anew from all finer tiles in them."""
    owner = finer["start_us"] - finer["start_us"] % step_us
    affected = np.isin(owner, changed - changed % step_us)
    parts = finer[affected]
    starts, first = np.unique(owner[affected], return_index=True)
    merged = np.zeros(len(starts), view.tile_dtype)
    merged["start_us"] = starts
    for column in view.columns:
        merged[column] = _merge_of(column).reduceat(parts[column], first)
    return merged


def _trim(view: TileView, index: int, tiles: Tiles, newest_us: int, settled_us: int | None) -> Tiles:
    lane = view.lanes[index]
    oldest = newest_us - newest_us % lane.step_us - lane.retention_us
    if settled_us is not None and index + 1 < max(len(view.lanes), 2):
        # What an event still to come may fall into, or be merged with, outlives every window.
        merged_us = view.lanes[min(index + 1, len(view.lanes) - 1)].step_us
        oldest = min(oldest, settled_us - settled_us % merged_us)
    return tiles[np.searchsorted(tiles["start_us"], oldest) :]


def _remember(old: NDArray[np.void], new: NDArray[np.void]) -> NDArray[np.void]:
    return np.unique(np.concatenate([old, new]))[-RECENT_LIMIT:]


def _newly_counted(view: TileView, old: Tiles, new: Tiles) -> dict[str, int]:
    replaced = old[np.isin(old["start_us"], new["start_us"])]
    return {
        event.event_name: int(new[f"{event.event_name}_n"].sum()) - int(replaced[f"{event.event_name}_n"].sum())
        for event in view.events
    }


@dataclass(frozen=True)
class OwnEvent:
    """The event a decision is about: it belongs to its own windows once, whether or not it has arrived."""

    event_name: str
    id_hash: int
    fields: Mapping[str, float]


def fold(view: TileView, state: EntityState | None, at_us: int, own: OwnEvent | None) -> list[float]:
    """Values of the view's features at `at_us`, in the order of `view.features`."""
    if state is None:
        state = EntityState.empty(view)
    if own is not None and own.id_hash in state.recent["id_hash"]:
        own = None
    values = [0.0] * len(view.features)
    for windows, lane in zip(view.lane_windows, state.lanes, strict=True):
        floor_us = at_us - at_us % windows.step_us
        edges = lane["start_us"].searchsorted(windows.edges_us + floor_us).tolist()
        for place, low, high in zip(windows.places, edges[::2], edges[1::2], strict=True):
            feature = view.features[place]
            belongs = own is not None and feature.delay_us == 0 and own.event_name == feature.event.event_name
            values[place] = _value(feature, lane[low:high], own if belongs else None)
    return values


def window_bounds(feature: WindowedFeature, at_us: Moment) -> tuple[Moment, Moment]:
    """First tile start inside the window and first one past it; for one moment, or for an array of them."""
    floor = at_us - at_us % feature.step_us
    low, high = feature.edges_us
    return floor + low, floor + high


def _value(feature: WindowedFeature, part: Tiles, own: OwnEvent | None) -> float:
    count = int(np.add.reduce(part[column_of(feature, "n")])) + (own is not None)
    if feature.statistic is Statistic.COUNT:
        return float(count)
    if count == 0:
        return 0.0 if feature.statistic is Statistic.SUM else feature.default
    extra: Sequence[float] = () if own is None else (own.fields[str(feature.field)],)
    if feature.statistic in (Statistic.SUM, Statistic.MEAN):
        total = float(np.add.reduce(part[column_of(feature, "sum")])) + sum(extra)
        return total if feature.statistic is Statistic.SUM else total / count
    column = column_of(feature, feature.statistic)
    return float(_merge_of(column).reduce(np.append(part[column], extra)))
