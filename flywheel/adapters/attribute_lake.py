"""Loads of attribute tables in the lake: every load a Parquet file, none ever changed, so that the past stays known.

Below `directory/attribute_tables/<table>` each row has the parts of its entity's id (as text), `event_timestamp` (the
moment it is as of), `created_timestamp` (when it was loaded) and what the online store has of it: Feast reads both.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.adapters.duckdb_limits import bounded_database
from flywheel.adapters.duckdb_sql import literal
from flywheel.adapters.lake_lock import rewriting
from flywheel.adapters.point_in_time import CREATED, TIMESTAMP, JoinLimits
from flywheel.contracts.events import to_us
from flywheel.kernel.attributes import AttributeRow, AttributeTable
from flywheel.kernel.features import Column
from flywheel.kernel.ports import FeatureWriter

FOLDER = "attribute_tables"

_ROWS_AT_ONCE = 10_000
_LOCK_TIMEOUT_S = 600.0
_TELL_EVERY_S = 2.0
_NUMBER = "number"
_NEVER_US = 2**62
_TIME = pa.timestamp("us", "UTC")

Tell = Callable[[str], None]


class AttributeLake:
    """The loads of one use case; `directory` is its lake."""

    def __init__(self, directory: Path, limits: JoinLimits) -> None:
        self._directory = directory / FOLDER
        self._limits = limits

    def loading(self) -> AbstractContextManager[None]:
        """While a table is loaded or brought online nobody else does either: the newest load stays the newest.

        Raises Unavailable when somebody does for ten minutes.
        """
        return rewriting(self._directory, timeout_s=_LOCK_TIMEOUT_S)

    def append(self, table: AttributeTable, rows: Sequence[AttributeRow], loaded_at: datetime) -> Path:
        """Keeps a load; durable, and seen whole or not at all, when the call returns. Gives its file."""
        directory = self._directory / table.name
        directory.mkdir(parents=True, exist_ok=True)
        name = f"{loaded_at.astimezone(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex}.parquet"
        beside, file = directory / f".{name}", directory / name
        with beside.open("wb") as sink:
            pq.write_table(_table(table, rows, loaded_at), sink)
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(beside, file)
        return file

    def newest(self, table: AttributeTable, *, of: Path | None = None) -> Iterator[list[AttributeRow]]:
        """The newest row of each entity, some thousand at a time; `of`: only of the entities in that file."""
        if not self._files(table):
            return
        keys = _listed(table.entity.keys)
        chosen = "" if of is None else f"WHERE ({keys}) IN (SELECT ({keys}) FROM {_parquet(of)})"
        with bounded_database(self._limits.memory_mib, self._limits.spill) as database:
            found = database.sql(
                f"""
                SELECT {keys}, epoch_us({TIMESTAMP}) AS as_of_us, {_listed(table.stored_names[:-1])}
                FROM {self._rows(table)} {chosen}
                QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {TIMESTAMP} DESC, {CREATED} DESC) = 1
                """
            ).to_arrow_reader(_ROWS_AT_ONCE)
            parts = len(table.entity.keys)
            for batch in found:
                columns = zip(*(column.to_pylist() for column in batch.columns), strict=True)
                yield [AttributeRow(each[:parts], each[parts], each[parts + 1 :]) for each in columns]

    def publish(self, table: AttributeTable, writer: FeatureWriter, tell: Tell, *, of: Path | None = None) -> int:
        """Brings the newest row of each entity, or of those in the file `of`, online; gives how many those are.

        Raises Unavailable.
        """
        done, told_s = 0, time.monotonic()
        for rows in self.newest(table, of=of):
            writer.put(table, rows)
            done += len(rows)
            if time.monotonic() - told_s > _TELL_EVERY_S:
                told_s = time.monotonic()
                tell(f"{table.name}: {done:,} entities")
        tell(f"{table.name}: {done:,} entities, all of them")
        return done

    def known_at(
        self, requests: pa.Table, tables: Sequence[AttributeTable], *, loaded_until: datetime | None = None
    ) -> pa.Table:
        """The requests, in their order, with every attribute as it was known at each as a column more.

        `requests` has the entities' ids in the request's fields, `event_timestamp`, `ingest_time` and `backfilled`. A
        request sees loads that were made before it arrived, one that was backfilled every load until `loaded_until`,
        and neither a load that is as of later.
        """
        columns = dict(zip(requests.column_names, requests.columns, strict=True))
        at_us = requests[TIMESTAMP].cast(_TIME).cast(pa.int64()).to_numpy().astype(np.float64)
        for table in tables:
            seen = self._seen(requests, table, loaded_until)
            columns |= {name: pa.chunked_array([values]) for name, values in table.at(seen, at_us).items()}
        return pa.table(columns)

    def _seen(self, requests: pa.Table, table: AttributeTable, loaded_until: datetime | None) -> dict[str, Column]:
        """Of each request the newest row that it sees, as stored; NaN where there is none, and for null."""
        found = {name: np.full(len(requests), np.nan) for name in table.stored_names}
        if self._files(table):
            joined = self._joined(requests, table, loaded_until)
            numbers = joined.pop(_NUMBER)
            for name, values in joined.items():
                found[name][numbers] = np.ma.filled(values, np.nan)
        return found

    def _joined(self, requests: pa.Table, table: AttributeTable, loaded_until: datetime | None) -> dict[str, Any]:
        """Number of each request that sees a row, and that row as stored; NaN or masked where null."""
        ids = tuple(f"key_{place}" for place in range(len(table.entity.keys)))
        asked = requests.select([*table.entity.request_keys, TIMESTAMP, "ingest_time", "backfilled"])
        asked = asked.rename_columns([*ids, "asked_at", "arrived", "backfilled"])
        equal = " AND ".join(f'{i}::VARCHAR = known."{k}"' for i, k in zip(ids, table.entity.keys, strict=True))
        until_us = _NEVER_US if loaded_until is None else to_us(loaded_until)
        packed = ", ".join(f"'{name}': \"{name}\"" for name in table.stored_names)
        with bounded_database(self._limits.memory_mib, self._limits.spill, threads=self._limits.threads) as database:
            database.register("asked", asked.append_column(_NUMBER, pa.array(np.arange(len(asked)))))
            return database.execute(
                f"""
                SELECT {_NUMBER}, unnest(seen) FROM (
                    SELECT {_NUMBER}, arg_max(
                        {{{packed}}}, row(epoch_us({TIMESTAMP}), epoch_us({CREATED}))
                    ) AS seen
                    FROM asked JOIN {self._rows(table)} known ON {equal} AND {TIMESTAMP} <= asked_at
                        AND epoch_us({CREATED}) <= CASE WHEN backfilled THEN {until_us} ELSE epoch_us(arrived) END
                    GROUP BY {_NUMBER}
                )
                """
            ).fetchnumpy()

    def _files(self, table: AttributeTable) -> list[Path]:
        return sorted((self._directory / table.name).glob("[!.]*.parquet"))

    def _rows(self, table: AttributeTable) -> str:
        """SQL of all loads; a column that was declared later is null in those before."""
        fields = [*((key, "VARCHAR") for key in table.entity.keys), *((name, "DOUBLE") for name in table.stored_names)]
        nothing = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in fields)
        files = _parquet(*self._files(table))
        return f"(SELECT {nothing} WHERE false UNION ALL BY NAME SELECT * FROM {files})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _parquet(*files: Path) -> str:
    listed = ", ".join(map(literal, files))
    return f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"


def _table(table: AttributeTable, rows: Sequence[AttributeRow], loaded_at: datetime) -> pa.Table:
    keys = {name: pa.array([row.key[n] for row in rows], pa.string()) for n, name in enumerate(table.entity.keys)}
    times = {
        TIMESTAMP: pa.array([row.as_of_us for row in rows], _TIME),
        CREATED: pa.array([to_us(loaded_at)] * len(rows), _TIME),
    }
    stored = np.array([(*row.values, row.as_of_us) for row in rows], np.float64).reshape(-1, len(table.stored_names))
    # As nulls, which is what Feast takes for no value.
    columns = {name: pa.array(stored[:, n], from_pandas=True) for n, name in enumerate(table.stored_names)}
    return pa.table(keys | times | columns)
