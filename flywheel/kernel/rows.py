"""Events as rows of cells: the one form in which the stream, the edge, history and a decision hold them.

A row has 8-byte cells: event time in microseconds, id hash, mark of arrival, then one cell for each source of the view:
a double, NaN where the event contributes nothing, or for hashed sources a 64-bit hash, 0 where it contributes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from flywheel.contracts.events import Event
from flywheel.kernel.features import join_id
from flywheel.kernel.plan import FIXED_CELLS, Intake, Source, TileView

Cells = NDArray[np.int64]
"""Shape (n, cells); doubles are read by `.view(np.float64)`."""
Times = NDArray[np.int64]
Values = NDArray[Any]

TIME, TIE, MARK = 0, 1, 2
"""Columns of a row. Events of one moment are ordered by their id hash. A mark says when the event arrived: in the
stream its position in the log, in history its arrival in microseconds."""

NOTHING = np.float64("nan")
_NOTHING_BITS = int(np.array(NOTHING).view(np.int64))


def id_hash(text: str) -> int:
    """Signed 64-bit hash of an event id or of a value; equals Spark's `xxhash64` of the text.

    >>> id_hash("1")
    -928762887014768240
    """
    unsigned = xxhash.xxh64_intdigest(text.encode(), seed=42)
    return unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned


def event_hash(event_name: str, event_id: str) -> int:
    """The id hash of an event; ids of different kinds of events do not meet."""
    return id_hash(f"{event_name}/{event_id}")


def hashes(values: Sequence[object]) -> NDArray[np.int64]:
    """`id_hash` of each value written out; 0, for which no value hashes, where it is None or NaN."""
    return np.array([0 if v is None or v != v else id_hash(str(v)) or 1 for v in values], np.int64)


def rows_of(
    view: TileView, event: type[Event], columns: Mapping[str, Values], times_us: Times, ties: Times, marks: Times
) -> tuple[list[str], Cells]:
    """The entities that events of one kind come to, and their rows: one for each event and entity.

    `columns` holds, by name, the fields `view.fields_of(event)`; an absent number is NaN or None. An event whose
    entity is absent comes to none; one that comes to an entity in two ways comes once, with both contributions.
    """
    ids: list[str] = []
    parts = []
    for intake in view.intakes:
        if intake.event is event:
            whose = _entity_ids(intake, columns)
            named = np.array([entity_id is not None for entity_id in whose], np.bool_)
            ids += [entity_id for entity_id in whose if entity_id is not None]
            parts.append(_rows(view, intake, columns, times_us, ties, marks)[named])
    if not parts:
        return [], no_rows(view)
    return (ids, parts[0]) if len(parts) == 1 else _united(view, ids, np.concatenate(parts))


def rows_about(view: TileView, event: Event, entity_id: str, tie: int) -> Cells:
    """The row, if any, that the event with this id hash adds to this one entity."""
    fields = {name: getattr(event, name) for name in view.fields_of(type(event))}
    return row_about(view, type(event), fields, entity_id, event.event_time_us, tie)


def row_about(
    view: TileView, event: type[Event], fields: Mapping[str, object], entity_id: str, time_us: int, tie: int
) -> Cells:
    """`rows_about` of an event that is known by the fields `view.fields_of(event)` alone."""
    columns = {name: np.array([value], object) for name, value in fields.items()}
    fixed = (np.array([cell], np.int64) for cell in (time_us, tie, 0))
    ids, rows = rows_of(view, event, columns, *fixed)
    return rows[[place for place, found in enumerate(ids) if found == entity_id]]


def _rows(
    view: TileView, intake: Intake, columns: Mapping[str, Values], times_us: Times, ties: Times, marks: Times
) -> Cells:
    rows = np.full((len(times_us), view.row_cells), _NOTHING_BITS, np.int64)
    rows[:, TIME], rows[:, TIE], rows[:, MARK] = times_us, ties, marks
    for place, source in enumerate(view.sources, FIXED_CELLS):
        if source.intake == intake:
            rows[:, place] = _cells(source, columns, len(times_us))
        elif source.hashed:
            rows[:, place] = 0
    return rows


def _united(view: TileView, ids: list[str], rows: Cells) -> tuple[list[str], Cells]:
    firsts: dict[tuple[str, int, int], int] = {}
    for place, key in enumerate(zip(ids, rows[:, TIE].tolist(), rows[:, MARK].tolist(), strict=True)):
        first = firsts.setdefault(key, place)
        if first != place:
            for cell, source in enumerate(view.sources, FIXED_CELLS):
                nothing = 0 if source.hashed else _NOTHING_BITS
                if rows[first, cell] == nothing:
                    rows[first, cell] = rows[place, cell]
    kept = list(firsts.values())
    return [ids[place] for place in kept], rows[kept]


def _entity_ids(intake: Intake, columns: Mapping[str, Values]) -> list[str | None]:
    if len(intake.key_fields) == 1:
        return [_text(value) for value in columns[intake.key_fields[0]].tolist()]
    parts = zip(*(columns[name].tolist() for name in intake.key_fields), strict=True)
    return [None if any(_text(p) is None for p in part) else join_id([str(p) for p in part]) for part in parts]


def no_rows(view: TileView) -> Cells:
    """No event."""
    return np.empty((0, view.row_cells), np.int64)


def in_time(rows: Cells) -> Cells:
    """The rows by event time, those of one moment by id hash."""
    return rows[np.lexsort((rows[:, TIE], rows[:, TIME]))]


def contributing(view: TileView, rows: Cells, source: Source) -> NDArray[np.bool_]:
    """Which rows have something for the source."""
    column = rows[:, FIXED_CELLS + view.sources.index(source)]
    return column != 0 if source.hashed else ~np.isnan(column.view(np.float64))


def _cells(source: Source, columns: Mapping[str, Values], length: int) -> NDArray[np.int64]:
    met = np.ones(length, np.bool_)
    for condition in source.conditions:
        met &= condition.holds(columns)
    if source.hashed:
        return np.where(met, hashes(columns[str(source.field)].tolist()), 0)
    values = np.ones(length) if source.field is None else columns[source.field].astype(np.float64)
    return np.where(met, values, NOTHING).view(np.int64)


def _text(value: object) -> str | None:
    return None if value is None or value != value else str(value)
