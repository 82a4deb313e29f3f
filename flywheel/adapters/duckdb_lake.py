"""Looks up archived events in the lake: a request by its id, and what had happened to some entities until about then.

Only the dates that matter are opened. An event that was archived twice counts as it arrived first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Self

import duckdb
import numpy as np
import pyarrow as pa

from flywheel.adapters.duckdb_limits import bounded_database
from flywheel.adapters.duckdb_sql import ARRIVAL, literal
from flywheel.contracts.events import Event, from_us
from flywheel.kernel.durations import DAY_US
from flywheel.kernel.features import Entity, join_id
from flywheel.kernel.plan import TileView
from flywheel.kernel.ports import Unavailable
from flywheel.kernel.rows import Cells, event_hash, no_rows, rows_of

AHEAD_US = 2 * DAY_US

_SEPARATOR = join_id(["", ""])


@dataclass(frozen=True)
class Archived:
    """A request event as it was archived."""

    event_time_us: int
    entity_ids: Mapping[str, str]
    """By entity name."""


class ArchivedEvents(AbstractContextManager["ArchivedEvents"]):
    """Reads the archive below `directory`, with at most `memory_mib` of memory. Raises Unavailable on every call
    while files are being replaced."""

    def __init__(self, directory: Path, memory_mib: int, spill: Path) -> None:
        self._directory = directory
        self._database = bounded_database(memory_mib, spill)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def requests(
        self, request: type[Event], entities: Sequence[Entity], moments_us: Mapping[str, int]
    ) -> dict[str, Archived]:
        """The requests of these ids that are archived, looked for at the event times given with them, and whom of the
        entities they are about."""
        names = ["event_id", *(name for entity in entities for name in entity.request_keys)]
        dates = {_date(at_us) for at_us in moments_us.values()}
        found = self._rows(request, names, dates, "event_id IN (SELECT unnest($ids))", {"ids": list(moments_us)})
        archived = {}
        for row in found.to_pylist():
            ids = {entity.name: join_id([str(row[name]) for name in entity.request_keys]) for entity in entities}
            archived[row["event_id"]] = Archived(row["time_us"], ids)
        return archived

    def about(self, view: TileView, entity_ids: Collection[str], moments_us: Iterable[int]) -> dict[str, Cells]:
        """The entities' events, each once, marked with their arrival in microseconds.

        Among them are all that the view's windows hold at these moments, and those of the `AHEAD_US` after. An entity
        that has none is not in the result.
        """
        ids: list[str] = []
        parts: list[Cells] = [no_rows(view)]
        reach_us = max(f.reach_us + f.step_us for f in view.features)
        days = {at_us // DAY_US for at_us in moments_us}
        spans = [range(day - reach_us // DAY_US - 1, day + AHEAD_US // DAY_US + 1) for day in days]
        dates = {_date(day * DAY_US) for span in spans for day in span}
        for event in view.events:
            found = self._about(view, event, entity_ids, dates)
            if len(found):
                names, rows = _cells(view, event, found)
                ids += names
                parts.append(rows)
        return _by_entity(ids, np.concatenate(parts), entity_ids)

    def _about(self, view: TileView, event: type[Event], entity_ids: Collection[str], dates: set[date]) -> pa.Table:
        keys = {intake.key_fields for intake in view.intakes if intake.event is event}
        where = " OR ".join(f"{_id(fields)} IN (SELECT unnest($ids))" for fields in sorted(keys))
        return self._rows(event, ["event_id", *view.fields_of(event)], dates, where, {"ids": list(entity_ids)})

    def _rows(
        self, event: type[Event], names: Sequence[str], dates: set[date], where: str, parameters: Mapping[str, Any]
    ) -> pa.Table:
        """These columns and, in microseconds, `time_us` and `arrived_us`, of rows that meet the condition."""
        files = self._files(event, dates)
        columns = list(dict.fromkeys(names))
        if not files:
            return pa.table({name: [] for name in (*columns, "time_us", "arrived_us")})
        listed = ", ".join(map(literal, files))
        query = f"""
            SELECT {", ".join(columns)}, epoch_us(event_time::TIMESTAMPTZ) AS time_us,
                epoch_us(ingest_time::TIMESTAMPTZ) AS arrived_us
            FROM read_parquet([{listed}], hive_partitioning = false, union_by_name = true) WHERE {where}
            QUALIFY {ARRIVAL} = 1
        """
        try:
            return self._database.sql(query, params=dict(parameters)).to_arrow_table()
        except duckdb.IOException as error:
            raise Unavailable(f"the archive of {event.event_name} is being written anew: {error}") from error

    def _files(self, event: type[Event], dates: set[date]) -> list[str]:
        below = self._directory / event.event_name
        # Spark gives a batch its place once it is whole; what is under way has another name.
        return sorted(str(file) for day in dates for file in below.glob(f"event_date={day}/batch_id=*/*.parquet"))


def _cells(view: TileView, event: type[Event], found: pa.Table) -> tuple[list[str], Cells]:
    # As objects: whole numbers among which one is absent would come as fractions.
    columns = {name: np.array(found[name].to_pylist(), object) for name in view.fields_of(event)}
    ties = np.array([event_hash(event.event_name, name) for name in found["event_id"].to_pylist()], np.int64)
    return rows_of(view, event, columns, found["time_us"].to_numpy(), ties, found["arrived_us"].to_numpy())


def _by_entity(ids: Sequence[str], rows: Cells, wanted: Iterable[str]) -> dict[str, Cells]:
    places: dict[str, list[int]] = {entity_id: [] for entity_id in wanted}
    for place, entity_id in enumerate(ids):
        if entity_id in places:
            places[entity_id].append(place)
    return {entity_id: rows[mine] for entity_id, mine in places.items() if mine}


def _id(fields: Sequence[str]) -> str:
    """SQL of the entity id that these fields hold."""
    return f" || '{_SEPARATOR}' || ".join(f"{name}::VARCHAR" for name in fields)


def _date(at_us: int) -> date:
    return from_us(at_us).date()
