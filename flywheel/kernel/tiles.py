"""Tiles: mergeable states of an entity's events, one for each stretch of time in which there was one.

A tile covers `start_us <= event_time < start_us + step`. Lifting an event to a tile of its own and merging tiles of the
same start is all there is to it, so that it does not matter in which order, or in how many parts, events came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.plan import FIXED_CELLS, Aggregate, Lane, Part, Source, TileView
from flywheel.kernel.rows import TIE, TIME, Cells
from flywheel.kernel.sketch import Sketches, joined_sketches, union

Floats = NDArray[np.float64]

NO_TIME = np.iinfo(np.int64).min
"""Event time of an entry of FIRST or LAST that holds nothing."""


@dataclass(frozen=True)
class Tiles:
    """Tiles of one lane sorted by start, each start once: shape (tiles, lane.width).

    `sketches` holds, for each of `lane.distinct`, one sketch a tile.
    """

    cells: Cells
    sketches: tuple[Sketches, ...]

    @property
    def starts_us(self) -> NDArray[np.int64]:
        return self.cells[:, 0]

    @property
    def floats(self) -> Floats:
        return self.cells.view(np.float64)

    def __len__(self) -> int:
        return len(self.cells)

    def between(self, low: int, high: int) -> Tiles:
        """The tiles at these places."""
        return Tiles(self.cells[low:high], tuple(sketches.between(low, high) for sketches in self.sketches))


def no_tiles(lane: Lane) -> Tiles:
    """No tile."""
    return Tiles(np.empty((0, lane.width), np.int64), tuple(Sketches.of(()) for _ in lane.distinct))


@dataclass(frozen=True)
class Table:
    """Tiles of many entities in one lane, so that they are lifted and merged together; `owners` by tile."""

    lane: Lane
    owners: NDArray[np.int64]
    tiles: Tiles

    def merged(self) -> Table:
        """The table with tiles of the same entity and start made one, sorted by entity and start."""
        order = np.lexsort((self.tiles.starts_us, self.owners))
        owners, cells = self.owners[order], self.tiles.cells[order]
        new = np.ones(len(cells), np.bool_)
        new[1:] = (cells[1:, 0] != cells[:-1, 0]) | (owners[1:] != owners[:-1])
        firsts = np.flatnonzero(new)
        sketches = tuple(column.taken(order) for column in self.tiles.sketches)
        if len(firsts) == len(cells):
            return Table(self.lane, owners, Tiles(cells, sketches))
        return Table(self.lane, owners[firsts], _grouped(self.lane, Tiles(cells, sketches), firsts))


def lifted(view: TileView, lane: Lane, owners: NDArray[np.int64], rows: Cells) -> Table:
    """A tile for each event, unmerged; `owners` says by number whose event it is."""
    cells = np.empty((len(rows), lane.width), np.int64)
    cells[:, 0] = rows[:, TIME] - rows[:, TIME] % lane.step_us
    places = {source: FIXED_CELLS + place for place, source in enumerate(view.sources)}
    for aggregate in lane.aggregates:
        if aggregate.cells:
            first = lane.places[aggregate.source, aggregate.part, aggregate.half_life_us]
            cells[:, first : first + aggregate.cells] = _lift(aggregate, lane, rows, places[aggregate.source])
    sketches = tuple(_singles(rows[:, places[source]]) for source in lane.distinct)
    return Table(lane, owners, Tiles(cells, sketches))


def together(lane: Lane, tables: Sequence[tuple[NDArray[np.int64], Tiles]]) -> Table:
    """One table, unmerged, of tiles with their owners; no event is in two of them."""
    return Table(
        lane,
        np.concatenate([owners for owners, _ in tables]),
        joined(lane, [tiles for _, tiles in tables]),
    )


def joined(lane: Lane, parts: Sequence[Tiles]) -> Tiles:
    """These tiles one after the other."""
    columns = range(len(lane.distinct))
    sketches = tuple(joined_sketches([part.sketches[column] for part in parts]) for column in columns)
    return Tiles(np.concatenate([part.cells for part in parts]), sketches)


def _singles(hashes: NDArray[np.int64]) -> Sketches:
    held = hashes != 0
    return Sketches(held.astype(np.int64), hashes[held])


def _lift(aggregate: Aggregate, lane: Lane, rows: Cells, place: int) -> Cells:
    """Cells of one event each, shape (n, aggregate.cells)."""
    values = rows[:, place].view(np.float64)
    nothing = np.isnan(values)
    match aggregate.part:
        case Part.N:
            found = (~nothing).astype(np.float64)
        case Part.SUM:
            found = np.where(nothing, 0.0, values)
        case Part.M2:
            found = np.zeros(len(rows))
        case Part.DECAYED:
            age_us = lane.step_us - rows[:, TIME] % lane.step_us
            found = np.where(nothing, 0.0, np.exp2(-age_us / aggregate.half_life_us))
        case Part.FIRST | Part.LAST:
            return _lifted_entries(aggregate, rows, values, nothing)
        case _:
            found = values
    return found.view(np.int64)[:, None]


def _lifted_entries(aggregate: Aggregate, rows: Cells, values: Floats, nothing: NDArray[np.bool_]) -> Cells:
    cells = np.zeros((len(rows), aggregate.depth, 3), np.int64)
    cells[:, :, 0] = NO_TIME
    cells[~nothing, 0, 0] = rows[~nothing, TIME]
    cells[~nothing, 0, 1] = rows[~nothing, TIE]
    cells[:, 0, 2] = np.where(nothing, 0.0, values).view(np.int64)
    return cells.reshape(len(rows), -1)


def _grouped(lane: Lane, tiles: Tiles, firsts: NDArray[np.intp]) -> Tiles:
    """One tile for each run of tiles that begins at `firsts`."""
    cells = tiles.cells
    groups = np.zeros(len(cells), np.intp)
    groups[firsts[1:]] = 1
    groups = np.cumsum(groups)
    merged = np.empty((len(firsts), lane.width), np.int64)
    merged[:, 0] = cells[firsts, 0]
    for aggregate in lane.aggregates:
        if aggregate.cells:
            first = lane.places[aggregate.source, aggregate.part, aggregate.half_life_us]
            part = slice(first, first + aggregate.cells)
            merged[:, part] = _merge(aggregate, lane, cells, part, firsts, groups)
    bounds = [*firsts.tolist(), len(cells)]
    columns = [list(column) for column in tiles.sketches]
    united = [Sketches.of([union(column[low:high]) for low, high in pairwise(bounds)]) for column in columns]
    return Tiles(merged, tuple(united))


# A tile without a value holds NaN as its minimum and maximum: fmin and fmax pass over it.
_UFUNCS = {Part.MIN: np.fmin, Part.MAX: np.fmax}


def _merge(
    aggregate: Aggregate, lane: Lane, cells: Cells, part: slice, firsts: NDArray[np.intp], groups: NDArray[np.intp]
) -> Cells:
    if aggregate.part in (Part.FIRST, Part.LAST):
        return _merged_entries(aggregate, cells[:, part], groups, len(firsts))
    floats = cells.view(np.float64)
    if aggregate.part is Part.M2:
        found = _merged_m2(aggregate.source, lane, floats, part.start, firsts, groups)
    else:
        found = _UFUNCS.get(aggregate.part, np.add).reduceat(floats[:, part.start], firsts)
    return found.view(np.int64)[:, None]


def _merged_m2(
    source: Source, lane: Lane, floats: Floats, place: int, firsts: NDArray[np.intp], groups: NDArray[np.intp]
) -> Floats:
    """Chan, Golub, LeVeque (1979): squares about the parts' means, and of the parts' means about the common one."""
    n, totals = floats[:, lane.places[source, Part.N, 0]], floats[:, lane.places[source, Part.SUM, 0]]
    with np.errstate(invalid="ignore", divide="ignore"):
        common = (np.add.reduceat(totals, firsts) / np.add.reduceat(n, firsts))[groups]
        between = np.where(n > 0, n * (totals / n - common) ** 2, 0.0)
    return np.asarray(np.add.reduceat(floats[:, place] + between, firsts), np.float64)


def _merged_entries(aggregate: Aggregate, cells: Cells, groups: NDArray[np.intp], number: int) -> Cells:
    """The `depth` first or last entries of each group."""
    entries = cells.reshape(-1, 3)
    owner = np.repeat(groups, aggregate.depth)
    held = entries[:, 0] != NO_TIME
    entries, owner = entries[held], owner[held]
    order = np.lexsort((entries[:, 1], entries[:, 0], owner))
    if aggregate.part is Part.LAST:
        order = order[::-1]
        order = order[np.argsort(owner[order], kind="stable")]
    entries, owner = entries[order], owner[order]
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner, side="left")
    best = rank < aggregate.depth
    out = np.zeros((number, aggregate.depth, 3), np.int64)
    out[:, :, 0] = NO_TIME
    out[owner[best], rank[best]] = entries[best]
    return out.reshape(number, -1)
