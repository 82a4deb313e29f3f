"""Arrived events by entity: what a table of events, from the stream or the archive, brings to each entity of a view."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flywheel.adapters.spark_arrivals import EVENT, OFFSET, PARTITION, TIE, TIME, fields_at
from flywheel.contracts.events import Event
from flywheel.kernel.plan import FeaturePlan, TileView
from flywheel.kernel.ports import ViewKey
from flywheel.kernel.rows import MARK, Cells, rows_of
from flywheel.kernel.state import Change, mark_of, partition_of


def changes(plan: FeaturePlan, table: pa.Table) -> Iterator[tuple[TileView, dict[ViewKey, Change]]]:
    """What the table's events bring, by view and entity; rows in the order of their arrival.

    The table has the columns of `spark_arrivals.arrivals`.
    """
    marks = _marks(plan, table)
    reached = _reached(marks)
    names = table[EVENT].to_numpy()
    events = {event: _own(plan, event, table, names) for event in plan.events}
    fixed = (table[TIME].to_numpy(), table[TIE].to_numpy(), marks)
    for view in plan.views:
        ids: list[str] = []
        parts: list[Cells] = []
        for event in view.events:
            mine, columns = events[event]
            if len(mine):
                found, rows = rows_of(view, event, columns, *(cells[mine] for cells in fixed))
                ids += found
                parts.append(rows)
        if ids:
            yield view, _by_entity(view, ids, np.concatenate(parts), reached)


def _by_entity(view: TileView, ids: list[str], rows: Cells, reached: Mapping[int, int]) -> dict[ViewKey, Change]:
    names, numbers = np.unique(np.array(ids, object).astype(str), return_inverse=True)
    order = np.lexsort((rows[:, MARK], numbers))
    rows, bounds = rows[order], np.searchsorted(numbers[order], np.arange(len(names) + 1)).tolist()
    found = {}
    for place, name in enumerate(names.tolist()):
        mine = rows[bounds[place] : bounds[place + 1]]
        partitions = set(partition_of(mine[:, MARK]).tolist())
        found[ViewKey(view.name, name)] = Change(mine, {p: reached[p] for p in partitions})
    return found


def _marks(plan: FeaturePlan, table: pa.Table) -> NDArray[np.int64]:
    numbers = {event.event_name: plan.partition(event.event_name, 0) for event in plan.events}
    first = np.array([numbers[name] for name in table[EVENT].to_pylist()], np.int64)
    return mark_of(first + table[PARTITION].to_numpy(), table[OFFSET].to_numpy())


def _reached(marks: NDArray[np.int64]) -> dict[int, int]:
    """By partition, the mark past its last event."""
    partitions = partition_of(marks)
    return {int(p): int(marks[partitions == p].max()) + 1 for p in np.unique(partitions)}


def _own(
    plan: FeaturePlan, event: type[Event], table: pa.Table, names: NDArray[Any]
) -> tuple[NDArray[np.intp], dict[str, NDArray[Any]]]:
    """Where in the table the event's rows are, and the fields of these."""
    mine = np.flatnonzero(names == event.event_name)
    return mine, fields_at(table, event, plan.fields_of(event), mine)
