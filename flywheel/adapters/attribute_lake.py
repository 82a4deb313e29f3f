"""Loads of attribute tables in the lake: every load a Parquet file, none ever changed, so that the past stays known.

Below `directory/attribute_tables/<table>` each row has the parts of its entity's id (as text), `event_timestamp` (the
moment it is as of), `created_timestamp` (when it was loaded) and what the online store has of it: Feast reads both.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.adapters.duckdb_limits import bounded_database
from flywheel.adapters.duckdb_sql import literal
from flywheel.adapters.durable_files import replacing
from flywheel.adapters.lake_lock import rewriting
from flywheel.adapters.point_in_time import CREATED, TIMESTAMP, JoinLimits
from flywheel.adapters.telling import EntityCount, Tell
from flywheel.contracts.events import to_us
from flywheel.kernel.attributes import ONLINE_WITHIN_US, AttributeRow, AttributeTable
from flywheel.kernel.features import Column
from flywheel.kernel.ports import FeatureWriter

FOLDER = "attribute_tables"

_ROWS_AT_ONCE = 10_000
_LOCK_TIMEOUT_S = 600.0
_NUMBER = "number"
_NEVER_US = 2**62
_TIME = pa.timestamp("us", "UTC")


class LoadsUnreadable(Exception):
    """What was loaded of a table cannot be read; the message names the table, the reason and the way out."""


def table_directory(lake: Path, table: AttributeTable) -> Path:
    """Where the loads of a table lie in the lake of its use case."""
    return lake / FOLDER / table.name


def load_files(lake: Path, table: AttributeTable) -> list[Path]:
    """Its loads, each in a file, in the order in which they were made."""
    return sorted(table_directory(lake, table).glob("[!.]*.parquet"))


class AttributeLake:
    """The loads of one use case; `directory` is its lake."""

    def __init__(self, directory: Path, limits: JoinLimits) -> None:
        self._lake = directory
        self._limits = limits

    def loading(self) -> AbstractContextManager[None]:
        """While a table is loaded or brought online nobody else does either: the newest load stays the newest.

        Raises Unavailable when somebody does for ten minutes.
        """
        return rewriting(self._lake / FOLDER, timeout_s=_LOCK_TIMEOUT_S)

    def append(self, table: AttributeTable, rows: Sequence[AttributeRow], loaded_at: datetime) -> Path:
        """Keeps a load; durable, and seen whole or not at all, when the call returns. Gives its file."""
        directory = table_directory(self._lake, table)
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / f"{loaded_at.astimezone(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex}.parquet"
        with replacing(file) as sink:
            pq.write_table(_table(table, rows, loaded_at), sink)
        return file

    def newest(self, table: AttributeTable, *, of: Path | None = None) -> Iterator[list[AttributeRow]]:
        """The newest row of each entity, some thousand at a time; `of`: only of the entities in that file.

        Raises LoadsUnreadable.
        """
        try:
            yield from self._newest(table, of)
        except duckdb.OutOfMemoryException as error:
            raise LoadsUnreadable(
                f"{self._limits.memory_mib} MiB are too little to read the loads of {table.name}; give more by "
                "FLYWHEEL_ATTRIBUTES_MEMORY_MIB"
            ) from error
        except duckdb.Error as error:
            reason, *_ = str(error).splitlines()
            raise LoadsUnreadable(
                f"the loads of {table.name} cannot be read ({reason}); move the broken file out of "
                f"{table_directory(self._lake, table)} and load its rows again"
            ) from error

    def _newest(self, table: AttributeTable, of: Path | None) -> Iterator[list[AttributeRow]]:
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

        Raises Unavailable and LoadsUnreadable.
        """
        done = EntityCount(table.name, tell)
        for rows in self.newest(table, of=of):
            writer.put(table, rows)
            done.add(len(rows))
        return done.finish()

    def known_at(
        self, requests: pa.Table, tables: Sequence[AttributeTable], *, loaded_until: datetime | None = None
    ) -> pa.Table:
        """The requests, in their order, with every attribute as it was known at each as a column more.

        `requests` has the entities' ids in the request's fields, `event_timestamp`, `ingest_time` and `backfilled`. A
        request sees what was online when it arrived: its entity's newest load of those made by then. One that was
        backfilled sees the newest as of its own time, of the loads made until `loaded_until`.
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
        names = tuple(f"key_{place}" for place in range(len(table.entity.keys)))
        keys = ", ".join(names)
        asked = requests.select([*table.entity.request_keys, TIMESTAMP, "ingest_time", "backfilled"])
        asked = asked.rename_columns([*names, "asked_at", "arrived", "backfilled"])
        equal = " AND ".join(f"asked.{name} = known.{name}" for name in names)
        cast = ", ".join(f"{name}::VARCHAR AS {name}" for name in names)
        with bounded_database(self._limits.memory_mib, self._limits.spill, threads=self._limits.threads) as database:
            database.register("requests", asked.append_column(_NUMBER, pa.array(np.arange(len(asked)))))
            return database.execute(
                f"""
                WITH asked AS (
                    SELECT {_NUMBER}, {cast}, backfilled, epoch_us(asked_at) AS at_us,
                        epoch_us(arrived) - {ONLINE_WITHIN_US} AS loaded_by_us
                    FROM requests
                ),
                online AS (
                    SELECT {keys}, loaded_us, arg_max(stored, row(as_of_us, loaded_us)) OVER (
                        PARTITION BY {keys} ORDER BY loaded_us RANGE UNBOUNDED PRECEDING
                    ) AS stored
                    FROM {self._stored(table)}
                ),
                past AS (
                    SELECT {keys}, as_of_us, arg_max(stored, loaded_us) AS stored FROM {self._stored(table)}
                    WHERE loaded_us <= {_NEVER_US if loaded_until is None else to_us(loaded_until)}
                    GROUP BY {keys}, as_of_us
                )
                SELECT {_NUMBER}, unnest(stored) FROM (
                    SELECT {_NUMBER}, stored FROM (FROM asked WHERE NOT backfilled) asked
                    ASOF JOIN online known ON {equal} AND asked.loaded_by_us >= known.loaded_us
                    UNION ALL
                    SELECT {_NUMBER}, stored FROM (FROM asked WHERE backfilled) asked
                    ASOF JOIN past known ON {equal} AND asked.at_us >= known.as_of_us
                )
                """
            ).fetchnumpy()

    def _stored(self, table: AttributeTable) -> str:
        """SQL of all loads: key_0 and so on, as_of_us, loaded_us, and in one value what the store has of the row."""
        keys = ", ".join(f'"{key}" AS key_{place}' for place, key in enumerate(table.entity.keys))
        packed = ", ".join(f"'{name}': \"{name}\"" for name in table.stored_names)
        times = f"epoch_us({TIMESTAMP}) AS as_of_us, epoch_us({CREATED}) AS loaded_us"
        return f"(SELECT {keys}, {times}, {{{packed}}} AS stored FROM {self._rows(table)})"

    def _files(self, table: AttributeTable) -> list[Path]:
        return load_files(self._lake, table)

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
