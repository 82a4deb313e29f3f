"""What lies in windows, brought together: the cells that features read, end to end, so that one pass folds them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.plan import FIXED_CELLS, Part, Source, TileView
from flywheel.kernel.rows import Cells
from flywheel.kernel.stretches import Stretch
from flywheel.kernel.tiles import Tiles

Values = NDArray[np.float64]

_BLOCKS = {Part.N: 0, Part.DECAYED: 0, Part.SUM: 1, Part.MIN: 2, Part.MAX: 2, Part.FIRST: 2, Part.LAST: 2}


@dataclass(frozen=True)
class Found:
    """A reading in progress: by window its stretches, and what they are stretches of, by place.

    `floats` of events are their parts as tiles have them: whether they contribute, with what, and nothing for squares.
    """

    at_us: int
    own_tie: int | None
    stretches: list[list[Stretch]]
    cells: list[Cells]
    floats: list[Values]
    lanes: tuple[Tiles, ...]


@dataclass(frozen=True)
class Item:
    """One part of a source over one window: the window's number and, by place, the first cell of the part."""

    window: int
    columns: tuple[int, ...]


def item(view: TileView, window: int, source: Source, part: Part, half_life_us: int = 0) -> Item:
    """Where the part is read."""
    of_event = _event_column(view, source, part)
    lanes = (lane.places.get((source, part, half_life_us), 0) for lane in view.lanes)
    return Item(window, (of_event, of_event, *lanes))


def event_floats(view: TileView, rows: Cells) -> Values:
    """Parts of events, shape (n, 3 * sources + 1): contributes, contribution or 0, contribution or NaN, and a zero."""
    number = len(view.sources)
    found = np.zeros((len(rows), 3 * number + 1))
    if len(rows):
        values = rows.view(np.float64)[:, FIXED_CELLS:]
        held = ~np.isnan(values)
        found[:, :number] = held
        np.copyto(found[:, number : 2 * number], values, where=held)
        found[:, 2 * number : 3 * number] = values
    return found


def _event_column(view: TileView, source: Source, part: Part) -> int:
    number = len(view.sources)
    return 3 * number if part is Part.M2 else _BLOCKS[part] * number + view.sources.index(source)


def gathered(found: Found, items: Sequence[Item], nothing: Values) -> tuple[Values, list[int]]:
    """The items' cells end to end, and where each item begins: with `nothing`, one cell, so that none is empty."""
    stretches, floats = found.stretches, found.floats
    parts, firsts, size = [], [], 0
    for wanted in items:
        firsts.append(size)
        parts.append(nothing)
        size += 1
        columns = wanted.columns
        for place, low, high in stretches[wanted.window]:
            parts.append(floats[place][low:high, columns[place]])
            size += high - low
    return np.concatenate(parts), firsts
