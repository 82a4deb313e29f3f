"""The state of an entity: its newest events as they came, tiles of all of them, and how far in the log that goes.

The stream replaces a state as a whole by a newer one. What it holds depends on the events alone, not on the order in
which they came, so that a state rebuilt from the archive is the one that the stream would hold.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray

from flywheel.kernel.plan import RAW_LIMIT, Lane, TileView
from flywheel.kernel.rows import MARK, TIE, TIME, Cells, in_time, no_rows
from flywheel.kernel.sketch import Sketches, are_sketches
from flywheel.kernel.tiles import Tiles, joined, lifted, no_tiles, together

RECENT_LIMIT = 64
"""How many of an entity's last arrivals are remembered by id, so that one that comes again is recognized."""

OFFSET_BITS = 48
"""Of a position these are the offset, and those above them the partition."""
_HEADER = struct.Struct("<4sIQqIIII")
_DIGEST = struct.Struct("<Q")
"""The last bytes of a packed state are a digest of those before: corruption is noticed, and so is another writer."""
_MAGIC = b"FWT2"


class ForeignState(ValueError):
    """The bytes are no state of this view: corrupt, or written under another declaration."""


Numbers = TypeVar("Numbers", int, NDArray[np.int64])


def mark_of(partition: Numbers, offset: Numbers) -> Numbers:
    """An event's position in the log as one number; partitions of all topics are numbered through."""
    return partition << OFFSET_BITS | offset


def offset_of(mark: int) -> int:
    """The offset of a position."""
    return mark & (1 << OFFSET_BITS) - 1


def partition_of(mark: Numbers) -> Numbers:
    """The partition of a position, or of each of many."""
    return mark >> OFFSET_BITS


@dataclass(frozen=True)
class EntityState:
    """Everything kept about one entity of a view.

    `positions`: by partition, the mark below which every event of the entity is in this state; a micro-batch that comes
    again finds itself there already. `lost`: earlier events are missing, because what held them could not be read.
    """

    raw: Cells
    lanes: tuple[Tiles, ...]
    recent: NDArray[np.int64]
    newest_us: int
    positions: Mapping[int, int] = field(default_factory=dict)
    lost: bool = False

    @classmethod
    def empty(cls, view: TileView, *, lost: bool = False) -> EntityState:
        lanes = tuple(no_tiles(lane) for lane in view.lanes)
        return cls(no_rows(view), lanes, np.empty(0, np.int64), 0, lost=lost)

    def pack(self, view: TileView) -> bytes:
        """Bytes that `unpack` reads back."""
        marks = np.array(sorted(self.positions.values()), np.int64)
        header = _HEADER.pack(
            _MAGIC, len(marks), view.fingerprint, self.newest_us, len(self.recent), len(self.raw), self.lost, 0
        )
        parts = [np.array([len(tiles) for tiles in self.lanes], np.int64), marks, self.recent, self.raw]
        for tiles in self.lanes:
            parts.append(tiles.cells)
            for sketches in tiles.sketches:
                parts += [sketches.lengths, sketches.words]
        packed = header + b"".join(part.tobytes() for part in parts)
        return packed + _digest(packed)

    @classmethod
    def unpack(cls, view: TileView, packed: bytes) -> EntityState:
        """The state in `packed`, without copying it. Raises ForeignState."""
        if len(packed) < _HEADER.size + _DIGEST.size or len(packed) % 8:
            raise ForeignState(f"{view.name}: {len(packed)} bytes are no state")
        magic, positions, fingerprint, newest_us, recent, raw, lost, _ = _HEADER.unpack_from(packed)
        if magic != _MAGIC or fingerprint != view.fingerprint:
            raise ForeignState(f"{view.name}: written under another declaration")
        if packed[-_DIGEST.size :] != _digest(memoryview(packed)[: -_DIGEST.size]):
            raise ForeignState(f"{view.name}: a state that is damaged")
        words = _Words(view, packed)
        lengths = words.take(len(view.lanes)).tolist()
        marks = words.take(positions)
        found = cls(
            recent=words.take(recent),
            raw=words.take(raw * view.row_cells).reshape(-1, view.row_cells),
            lanes=tuple(_tiles(lane, length, words) for lane, length in zip(view.lanes, lengths, strict=True)),
            newest_us=newest_us,
            positions=dict(zip(partition_of(marks).tolist(), marks.tolist(), strict=True)),
            lost=bool(lost),
        )
        words.finish()
        return found

    def holds(self, marks: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the events at these positions of the log are in this state."""
        if not self.positions:
            return np.zeros(len(marks), np.bool_)
        reached = np.array(sorted(self.positions.values()), np.int64)
        # Positions are ordered by partition: only the next one can be of the same partition, and beyond the event.
        following = np.append(reached, -1)[reached.searchsorted(marks, side="right")]
        held: NDArray[np.bool_] = partition_of(following) == partition_of(marks)
        return held


class _Words:
    """Takes arrays of words off packed bytes, never past their end."""

    def __init__(self, view: TileView, packed: bytes) -> None:
        self._words = np.frombuffer(packed, "<i8", (len(packed) - _HEADER.size) // 8 - 1, _HEADER.size)
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


def _digest(packed: bytes | memoryview) -> bytes:
    return _DIGEST.pack(xxhash.xxh64_intdigest(packed))


def _tiles(lane: Lane, length: int, words: _Words) -> Tiles:
    cells = words.take(length * lane.width).reshape(-1, lane.width)
    return Tiles(cells, tuple(_sketches(length, words) for _ in lane.distinct))


def _sketches(length: int, words: _Words) -> Sketches:
    lengths = words.take(length)
    if not are_sketches(lengths):
        raise ForeignState("a sketch has an impossible length")
    return Sketches(lengths, words.take(int(lengths.sum())))


@dataclass(frozen=True)
class Change:
    """What a micro-batch brings to one entity: its events in the order of their arrival, and by partition the mark
    below which they are all."""

    rows: Cells
    reached: Mapping[int, int]


def apply(
    view: TileView, states: Sequence[EntityState], changes: Sequence[Change]
) -> tuple[list[EntityState], list[Cells]]:
    """The states after a micro-batch, and those of its rows that were new to each.

    What a state holds already, by position or by id, is passed over: a batch that comes again changes nothing.
    """
    news = [_new(state, change.rows) for state, change in zip(states, changes, strict=True)]
    newest = [_newest(state, fresh) for state, fresh in zip(states, news, strict=True)]
    raws, surplus = [], []
    for state, fresh, newest_us in zip(states, news, newest, strict=True):
        kept, overflow = _raw(view, state.raw, fresh, newest_us)
        raws.append(kept)
        surplus.append(overflow)
    lanes = [
        _advanced(view, lane, [s.lanes[index] for s in states], surplus if index == 0 else news, newest)
        for index, lane in enumerate(view.lanes)
    ]
    after = []
    for place, (state, change) in enumerate(zip(states, changes, strict=True)):
        reached = {p: max(mark, state.positions.get(p, 0)) for p, mark in change.reached.items()}
        after.append(
            EntityState(
                raw=raws[place],
                lanes=tuple(lane[place] for lane in lanes),
                recent=np.concatenate([state.recent, news[place][:, TIE]])[-RECENT_LIMIT:],
                newest_us=newest[place],
                positions={**state.positions, **reached},
                lost=state.lost,
            )
        )
    return after, news


def _new(state: EntityState, rows: Cells) -> Cells:
    """The rows that are not in the state yet, each id once."""
    known = {*state.recent.tolist(), *state.raw[:, TIE].tolist()}
    chosen = []
    for place, (tie, held) in enumerate(zip(rows[:, TIE].tolist(), state.holds(rows[:, MARK]).tolist(), strict=True)):
        if not held and tie not in known:
            known.add(tie)
            chosen.append(place)
    return rows if len(chosen) == len(rows) else rows[chosen]


def _newest(state: EntityState, fresh: Cells) -> int:
    return max(state.newest_us, int(fresh[:, TIME].max())) if len(fresh) else state.newest_us


def _raw(view: TileView, old: Cells, fresh: Cells, newest_us: int) -> tuple[Cells, Cells]:
    """The newest events as they came, and those that are too many to be kept so."""
    if not len(fresh):
        return old, fresh
    together = in_time(np.concatenate([old, fresh]))
    together = together[together[:, TIME].searchsorted(view.lanes[0].oldest_us(newest_us)) :]
    surplus = max(len(together) - RAW_LIMIT, 0)
    return together[surplus:], together[:surplus]


def _advanced(
    view: TileView, lane: Lane, olds: Sequence[Tiles], news: Sequence[Cells], newest: Sequence[int]
) -> list[Tiles]:
    """Each entity's tiles with its new events in them, without those that are read no more."""
    changed = [place for place, fresh in enumerate(news) if len(fresh)]
    after = [_trimmed(old, lane.oldest_us(newest_us)) for old, newest_us in zip(olds, newest, strict=True)]
    if not changed:
        return after
    owners = np.repeat(np.array(changed), [len(news[place]) for place in changed])
    fresh = lifted(view, lane, owners, np.concatenate([news[place] for place in changed])).merged()
    firsts = np.searchsorted(fresh.owners, changed)
    # Only tiles from an entity's first changed one on take part; those before stay as they are.
    cuts = [
        int(after[place].starts_us.searchsorted(start))
        for place, start in zip(changed, fresh.tiles.starts_us[firsts].tolist(), strict=True)
    ]
    tails = [after[place].between(cut, len(after[place])) for place, cut in zip(changed, cuts, strict=True)]
    tail_owners = np.repeat(np.array(changed), [len(tail) for tail in tails])
    merged = together(lane, [(tail_owners, joined(lane, tails)), (fresh.owners, fresh.tiles)]).merged()
    bounds = [*np.searchsorted(merged.owners, changed).tolist(), len(merged.owners)]
    for place, cut, (low, high) in zip(changed, cuts, pairwise(bounds), strict=True):
        whole = joined(lane, [after[place].between(0, cut), merged.tiles.between(low, high)])
        after[place] = _trimmed(whole, lane.oldest_us(newest[place]))
    return after


def _trimmed(tiles: Tiles, oldest_us: int) -> Tiles:
    first = int(tiles.starts_us.searchsorted(oldest_us))
    return tiles.between(first, len(tiles)) if first else tiles
