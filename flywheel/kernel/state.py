"""The state of an entity: its newest events as they came, tiles of all of them, and how far in the log that goes.

The stream replaces a state as a whole by a newer one. What it holds depends on the events alone, not on the order in
which they came, so that a state rebuilt from the archive is the one that the stream would hold.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.plan import RAW_LIMIT, Lane, TileView
from flywheel.kernel.rows import MARK, TIE, TIME, Cells, in_time, no_rows
from flywheel.kernel.sketch import Sketch, is_sketch
from flywheel.kernel.tiles import Tiles, merged, no_tiles, tiles_of

RECENT_LIMIT = 64
"""How many of an entity's last arrivals are remembered by id, so that one that comes again is recognized."""

_OFFSET_BITS = 48
_HEADER = struct.Struct("<4sIQqqII")
_MAGIC = b"FWT2"


class ForeignState(ValueError):
    """The bytes are no state of this view: corrupt, or written under another declaration."""


def mark_of(partition: int, offset: int) -> int:
    """An event's position in the log as one number; partitions of all topics are numbered through."""
    return partition << _OFFSET_BITS | offset


def partition_of(marks: NDArray[np.int64]) -> NDArray[np.int64]:
    """The partitions of these positions."""
    return marks >> _OFFSET_BITS


@dataclass(frozen=True)
class EntityState:
    """Everything kept about one entity of a view.

    `positions`: by partition, the mark below which every event of the entity is in this state. `batch_id` is the
    micro-batch that wrote it last; one that comes again finds itself applied already.
    """

    raw: Cells
    lanes: tuple[Tiles, ...]
    recent: NDArray[np.int64]
    newest_us: int
    batch_id: int
    positions: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def empty(cls, view: TileView) -> EntityState:
        lanes = tuple(no_tiles(lane) for lane in view.lanes)
        return cls(no_rows(view), lanes, np.empty(0, np.int64), 0, -1)

    def pack(self, view: TileView) -> bytes:
        """Bytes that `unpack` reads back."""
        marks = np.array(sorted(self.positions.values()), np.int64)
        header = _HEADER.pack(
            _MAGIC, len(marks), view.fingerprint, self.newest_us, self.batch_id, len(self.recent), len(self.raw)
        )
        parts = [np.array([len(tiles) for tiles in self.lanes], np.int64), marks, self.recent, self.raw]
        for tiles in self.lanes:
            parts.append(tiles.cells)
            for sketches in tiles.sketches:
                parts += [np.array([len(sketch) for sketch in sketches], np.int64), *sketches]
        return header + b"".join(part.tobytes() for part in parts)

    @classmethod
    def unpack(cls, view: TileView, packed: bytes) -> EntityState:
        """The state in `packed`, without copying it. Raises ForeignState."""
        if len(packed) < _HEADER.size or len(packed) % 8:
            raise ForeignState(f"{view.name}: {len(packed)} bytes are no state")
        magic, positions, fingerprint, newest_us, batch_id, recent, raw = _HEADER.unpack_from(packed)
        if magic != _MAGIC or fingerprint != view.fingerprint:
            raise ForeignState(f"{view.name}: written under another declaration")
        words = _Words(view, packed)
        lengths = words.take(len(view.lanes)).tolist()
        marks = words.take(positions)
        found = cls(
            recent=words.take(recent),
            raw=words.take(raw * view.row_cells).reshape(-1, view.row_cells),
            lanes=tuple(_tiles(lane, length, words) for lane, length in zip(view.lanes, lengths, strict=True)),
            newest_us=newest_us,
            batch_id=batch_id,
            positions=dict(zip(partition_of(marks).tolist(), marks.tolist(), strict=True)),
        )
        words.finish()
        return found

    def holds(self, marks: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the events at these positions of the log are in this state."""
        reached = [self.positions.get(partition, 0) for partition in partition_of(marks).tolist()]
        return marks < np.array(reached, np.int64)


class _Words:
    """Takes arrays of words off packed bytes, never past their end."""

    def __init__(self, view: TileView, packed: bytes) -> None:
        self._words = np.frombuffer(packed, "<i8", offset=_HEADER.size)
        self._view = view
        self._at = 0

    def take(self, number: int) -> NDArray[np.int64]:
        if not 0 <= number <= len(self._words) - self._at:
            raise ForeignState(f"{self._view.name}: cut off, or longer than announced")
        self._at += number
        return self._words[self._at - number : self._at]

    def finish(self) -> None:
        if self._at != len(self._words):
            raise ForeignState(f"{self._view.name}: {len(self._words) - self._at} words more than announced")


def _tiles(lane: Lane, length: int, words: _Words) -> Tiles:
    cells = words.take(length * lane.width).reshape(-1, lane.width)
    return Tiles(cells, tuple(_sketches(length, words) for _ in lane.distinct))


def _sketches(length: int, words: _Words) -> tuple[Sketch, ...]:
    lengths = words.take(length).tolist()
    if not all(is_sketch(number) for number in lengths):
        raise ForeignState("a sketch has an impossible length")
    return tuple(words.take(number) for number in lengths)


def apply(
    view: TileView, state: EntityState, rows: Cells, *, batch_id: int, reached: Mapping[int, int]
) -> tuple[EntityState, Cells]:
    """The state after a micro-batch, and those of its rows that were new.

    `rows` are the entity's events in the order of their arrival, `reached` the marks, by partition, below which they
    are all. A batch that the state has seen changes nothing.
    """
    if batch_id <= state.batch_id:
        return state, no_rows(view)
    fresh = _new(state, rows)
    newest_us = max(state.newest_us, int(fresh[:, TIME].max(initial=state.newest_us)))
    raw, overflow = _raw(view, state.raw, fresh, newest_us)
    kept = []
    for index, (lane, tiles) in enumerate(zip(view.lanes, state.lanes, strict=True)):
        added = tiles_of(view, lane, overflow if index == 0 else fresh)
        kept.append(_trimmed(merged(lane, tiles, added), lane.oldest_us(newest_us)))
    positions = {**state.positions, **{p: max(mark, state.positions.get(p, 0)) for p, mark in reached.items()}}
    recent = np.concatenate([state.recent, fresh[:, TIE]])[-RECENT_LIMIT:]
    return EntityState(raw, tuple(kept), recent, newest_us, batch_id, positions), fresh


def _new(state: EntityState, rows: Cells) -> Cells:
    """The rows that are not in the state yet, each id once."""
    firsts = np.sort(np.unique(rows[:, TIE], return_index=True)[1])
    rows = rows[firsts]
    known = np.isin(rows[:, TIE], state.recent) | np.isin(rows[:, TIE], state.raw[:, TIE])
    return rows[~known & ~state.holds(rows[:, MARK])]


def _raw(view: TileView, old: Cells, fresh: Cells, newest_us: int) -> tuple[Cells, Cells]:
    """The newest events as they came, and those that are too many to be kept so."""
    oldest_us = view.lanes[0].oldest_us(newest_us)
    together = in_time(np.concatenate([old, fresh]))
    together = together[np.searchsorted(together[:, TIME], oldest_us) :]
    surplus = max(len(together) - RAW_LIMIT, 0)
    return together[surplus:], together[:surplus]


def _trimmed(tiles: Tiles, oldest_us: int) -> Tiles:
    first = int(np.searchsorted(tiles.starts_us, oldest_us))
    return tiles.between(first, len(tiles)) if first else tiles
