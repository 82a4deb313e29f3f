"""Refuses to train on rows that know more than was known when their requests arrived."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flywheel.adapters.attribute_loads import loads_of
from flywheel.contracts.events import Event, from_us, iso_utc
from flywheel.contracts.training import GateResult, HistoryBuilt
from flywheel.kernel.attribute_leakage import attribute_mismatches
from flywheel.kernel.attributes import AttributeTable
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.features import join_id
from flywheel.kernel.leakage import Mismatch, Recorded, Request, Way, mismatches
from flywheel.kernel.plan import TileView, compile_plan
from services.trainer.labels import arrived_until_us, first_arrivals
from services.trainer.training_set import TIMESTAMP, TrainingSet

GATE = "no_future_features"

_ROWS = 300
_SEED = 20180401


class FutureLeaked(Exception):
    """A training row holds a value that could not be known at its request; the message names both values."""


@dataclass(frozen=True)
class LeakageCheck:
    """How many training rows were computed again, value by value, and found right."""

    rows: int
    values: int

    @property
    def gate(self) -> GateResult:
        """The gate that the check is; it passed, for otherwise there is no model."""
        demand = f"<= 0 of {self.values} values of {self.rows} sampled rows not as known at the request"
        return GateResult(name=GATE, passed=True, value=0.0, demand=demand)


def check_leakage(
    lake: Path, usecase: UseCase, history: HistoryBuilt, examples: TrainingSet, *, rows: int = _ROWS
) -> LeakageCheck:
    """Computes some rows' windowed features again from the lake's events, and looks up their attributes in its loads;
    half of the rows are positives if it can.

    Raises FutureLeaked when a value differs from what had happened and arrived by the request; of what was backfilled,
    from what had happened.
    """
    sample = examples.requests.take(_sampled(examples.labels, rows))
    until_us = arrived_until_us(history.arrived_until)
    found: list[Mismatch] = []
    values = 0
    for view in compile_plan(usecase).views:
        recorded = _recorded(lake / usecase.name, view, sample, until_us)
        for entity_id, request, trained in _rows(usecase, view, sample):
            known = request if history.as_known else replace(request, arrived_us=until_us)
            found += mismatches(view.features, recorded.get(entity_id, {}), known, trained)
            values += len(view.features)
    for table in usecase.attribute_tables:
        asked = list(_rows(usecase, table, sample))
        loads = loads_of(lake / usecase.name, table, {entity_id for entity_id, _, _ in asked})
        for entity_id, request, trained in asked:
            found += attribute_mismatches(table, loads.get(entity_id, ()), request, trained, until_us)
            values += len(table.features)
    if found:
        raise FutureLeaked(_told(found, values))
    return LeakageCheck(len(sample), values)


def _sampled(labels: NDArray[np.bool_], rows: int) -> NDArray[np.intp]:
    rng = np.random.default_rng(_SEED)
    positives, all_rows = np.flatnonzero(labels), np.arange(len(labels))
    half = rng.choice(positives, min(rows // 2, len(positives)), replace=False)
    others = np.setdiff1d(all_rows, half)
    rest = rng.choice(others, min(rows - len(half), len(others)), replace=False)
    return np.sort(np.concatenate([half, rest]))


def _rows(
    usecase: UseCase, view: TileView | AttributeTable, sample: pa.Table
) -> Iterator[tuple[str, Request, dict[str, float]]]:
    """The entity's id, the request and the trained values of each sampled row."""
    times_us, arrived_us = (_micros(sample[name]).tolist() for name in (TIMESTAMP, "ingest_time"))
    names = [feature.name for feature in view.features]
    backfilled = sample["backfilled"].to_pylist()
    values = np.column_stack([sample[name].cast(pa.float64()).to_numpy() for name in names])
    ids = _entity_ids(sample, view.entity.request_keys)
    for row, event_id in enumerate(sample["event_id"].to_pylist()):
        trained = dict(zip(names, values[row].tolist(), strict=True))
        request = Request(usecase.request.event_name, event_id, times_us[row], arrived_us[row], backfilled[row])
        yield ids[row], request, trained


def _recorded(lake: Path, view: TileView, sample: pa.Table, until_us: int) -> dict[str, dict[Way, Recorded]]:
    """All events that came to the sampled entities and had arrived by then, by entity, event name and way."""
    found: dict[str, dict[Way, Recorded]] = {}
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        names = [f"key_{place}" for place in range(len(view.entity.keys))]
        database.register("sampled", sample.select(list(view.entity.request_keys)).rename_columns(names))
        for event, fields in dict.fromkeys((feature.event, feature.key_fields) for feature in view.features):
            for entity_id, recorded in _that_came(database, lake, view, event, fields, until_us):
                found.setdefault(entity_id, {})[event.event_name, fields] = recorded
    return found


def _that_came(
    database: duckdb.DuckDBPyConnection,
    lake: Path,
    view: TileView,
    event: type[Event],
    keys: tuple[str, ...],
    until_us: int,
) -> Iterator[tuple[str, Recorded]]:
    alike = " AND ".join(f"sampled.key_{place} = {key}" for place, key in enumerate(keys))
    sampled = f"EXISTS (SELECT 1 FROM sampled WHERE {alike})"
    rows = first_arrivals(lake, event, where=sampled)
    if rows is None:
        return
    fields = _fields(view, event)
    columns = list(dict.fromkeys([*keys, "event_id", "event_time", "ingest_time", "backfilled", *fields]))
    table = database.sql(
        f"SELECT {', '.join(columns)} FROM {rows} WHERE {sampled} AND epoch_us(ingest_time) <= {until_us} "
        f"ORDER BY {', '.join(keys)}, event_time, event_id"
    ).to_arrow_table()
    owners, ids = np.array(_entity_ids(table, keys), object), table["event_id"].to_pylist()
    times_us, arrived_us = _micros(table["event_time"]), _micros(table["ingest_time"])
    backfilled = table["backfilled"].to_numpy()
    values = {name: table[name].to_numpy() for name in fields}
    starts = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]])).tolist() if ids else []
    for first, last in pairwise([*starts, len(ids)]):
        part = slice(first, last)
        mine = {name: column[part] for name, column in values.items()}
        yield owners[first], Recorded(ids[part], times_us[part], arrived_us[part], mine, backfilled[part])


def _fields(view: TileView, event: type[Event]) -> list[str]:
    """Fields of the event that features of the view look at."""
    mine = [feature for feature in view.features if feature.event is event]
    names = {feature.field for feature in mine if feature.field is not None}
    return sorted(names | {condition.field for feature in mine for condition in feature.conditions})


def _entity_ids(table: pa.Table, keys: tuple[str, ...]) -> list[str]:
    parts = (table[key].to_pylist() for key in keys)
    return [join_id([str(part) for part in each]) for each in zip(*parts, strict=True)]


def _told(found: list[Mismatch], values: int) -> str:
    names = list(dict.fromkeys(mismatch.feature for mismatch in found))
    first = found[0]
    more = f"; the first of {len(found)} wrong values among {values}, in {', '.join(names)}" if len(found) > 1 else ""
    return f"{first} when it happened at {iso_utc(from_us(first.at_us))} and arrived{more}"


def _micros(column: pa.ChunkedArray) -> NDArray[np.int64]:
    micros: NDArray[np.int64] = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    return micros
