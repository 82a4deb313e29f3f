"""The point-in-time join of training sets: DuckDB finds the row of history, Arrow fetches its values.

The join itself carries keys, times and row numbers alone. Features are then read from Parquet one column at a time and
thread, so that besides the result there is never more than that of history in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flywheel.adapters.duckdb_limits import bounded_database
from flywheel.adapters.duckdb_sql import literal

TIMESTAMP = "event_timestamp"
CREATED = "created_timestamp"

Positions = NDArray[np.int64]
"""For each request the row of history that it sees, counted over all files of a source; -1 where it sees none."""

_NONE = -1


class HistoryUnusable(ValueError):
    """A source has no files, or the request columns do not fit it; the message names which."""


@dataclass(frozen=True)
class HistorySource:
    """Past values of one entity's features: Parquet files with the key columns, `event_timestamp`,
    `created_timestamp` and the features."""

    name: str
    directory: Path
    keys: tuple[tuple[str, str], ...]
    """Pairs of a request's column and the history's column that must be equal."""
    features: tuple[str, ...]
    ttl_us: int | None = None
    """A value older than this at the request is not seen; one exactly as old is. None: values never expire."""
    own_id: str | None = None
    """Column, in requests and history both, that names the event a row was computed for. Of several rows at one moment
    a request then sees its own."""


@dataclass(frozen=True)
class JoinLimits:
    """What a join may take. `spill` is where DuckDB puts what does not fit into `memory_mib`."""

    memory_mib: int
    spill: Path
    threads: int = 1


def join_point_in_time(requests: pa.Table, sources: Sequence[HistorySource], limits: JoinLimits) -> pa.Table:
    """The requests, each once and in their order, with every feature as of its `event_timestamp` as a column more.

    A request sees the newest row of its entity that is not later than itself; of several at the same moment the one
    with the newest `created_timestamp`. Null where it sees none. Times are UTC, in microseconds. Raises
    HistoryUnusable.
    """
    columns = dict(zip(requests.column_names, requests.columns, strict=True))
    with bounded_database(limits.memory_mib, limits.spill, threads=limits.threads) as database:
        for source in sources:
            history = _open(source)
            _check(source, columns)
            positions = _positions(database, requests, source, history)
            if source.own_id is not None and source.own_id in columns:
                positions = _own(database, requests, source, history, positions)
            columns |= _fetched(history, source.features, positions, limits.threads)
    return pa.table(columns)


def _fetched(history: _History, names: Sequence[str], positions: Positions, threads: int) -> dict[str, pa.Array]:
    """The named columns at these positions; as many at once as there may be threads."""
    seen = pa.array(positions, mask=positions == _NONE)
    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(names, pool.map(lambda name: history.column(name).take(seen), names), strict=True))


class _History:
    """The files of a source, opened, in a fixed order."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._paths = [str(path) for path in files]
        self._metadata = [pq.read_metadata(path) for path in files]
        rows = [metadata.num_rows for metadata in self._metadata]
        self._offsets = np.concatenate([[0], np.cumsum(rows)[:-1]]).astype(int).tolist()

    @property
    def relation(self) -> str:
        """SQL of all rows, each with its `position` over all files."""
        paths = ", ".join(map(literal, self._paths))
        return (
            f"(SELECT *, list_extract({self._offsets}, file_index::BIGINT + 1)::BIGINT + file_row_number AS position "
            f"FROM read_parquet([{paths}], file_row_number = true, hive_partitioning = false))"
        )

    def column(self, name: str) -> pa.Array:
        """One column of all files, in the order of positions. May be asked from several threads."""
        parts = []
        # A reader is one thread's; what is known of its file is everybody's.
        for path, metadata in zip(self._paths, self._metadata, strict=True):
            with pq.ParquetFile(path, metadata=metadata) as file:
                parts += file.read([name], use_threads=False)[name].chunks
        return parts[0] if len(parts) == 1 else pa.concat_arrays(parts)


def _open(source: HistorySource) -> _History:
    files = sorted(source.directory.glob("*.parquet"))
    if not files:
        raise HistoryUnusable(f"{source.name}: there is no history in {source.directory.name}")
    return _History(files)


def _check(source: HistorySource, columns: dict[str, pa.ChunkedArray]) -> None:
    needed = (TIMESTAMP, *(name for name, _ in source.keys))
    if missing := [name for name in needed if name not in columns]:
        raise HistoryUnusable(f"{source.name}: the requests have no column {', '.join(missing)}")
    if doubled := [name for name in source.features if name in columns]:
        raise HistoryUnusable(f"{source.name}: there is already a column {', '.join(doubled)}")


def _positions(
    database: duckdb.DuckDBPyConnection, requests: pa.Table, source: HistorySource, history: _History
) -> Positions:
    asked = [f'{_name(ours)} AS "key_{number}"' for number, (ours, _) in enumerate(source.keys)]
    known = [f'{_name(theirs)} AS "key_{number}"' for number, (_, theirs) in enumerate(source.keys)]
    equal = " AND ".join(f'asked."key_{number}" = known."key_{number}"' for number in range(len(source.keys)))
    fresh = "true" if source.ttl_us is None else f"asked.at_us - known.at_us <= {source.ttl_us}"
    database.register("requests", _numbered(requests, [TIMESTAMP, *(ours for ours, _ in source.keys)]))
    found = database.execute(
        # Pairs are compared by their first part, then by their second: no creation is later than the greatest number.
        f"""
        SELECT asked.number, known.position
        FROM (
            SELECT number, {", ".join(asked)}, {_micros(TIMESTAMP)} AS at_us, row(at_us, {_LATEST_US}) AS version
            FROM requests
        ) asked
        ASOF JOIN (
            SELECT position, {", ".join(known)}, {_micros(TIMESTAMP)} AS at_us,
                row(at_us, coalesce({_micros(CREATED)}, -{_LATEST_US})) AS version
            FROM {history.relation}
        ) known ON {equal} AND asked.version >= known.version
        WHERE {fresh}
        """
    ).fetchnumpy()
    positions = np.full(len(requests), _NONE, np.int64)
    positions[found["number"]] = found["position"]
    return positions


def _own(
    database: duckdb.DuckDBPyConnection,
    requests: pa.Table,
    source: HistorySource,
    history: _History,
    positions: Positions,
) -> Positions:
    """The positions, corrected where a request saw another event's row of the very same moment."""
    name = str(source.own_id)
    seen = history.column(name).take(pa.array(positions, mask=positions == _NONE))
    others = pc.not_equal(seen, requests[name].combine_chunks().cast(seen.type))
    rows = np.flatnonzero(pc.fill_null(others, False).to_numpy(zero_copy_only=False))
    if not len(rows):
        return positions
    names = [name, TIMESTAMP, *(ours for ours, _ in source.keys)]
    database.register("strangers", _numbered(requests.select(names).take(rows), names, rows))
    equal = " AND ".join(f"asked.{_name(ours)} = known.{_name(theirs)}" for ours, theirs in source.keys)
    found = database.execute(
        f"""
        SELECT asked.number, known.position FROM strangers asked
        JOIN {history.relation} known ON asked.{_name(name)} = known.{_name(name)} AND {equal}
            AND {_micros(f"asked.{TIMESTAMP}")} = {_micros(f"known.{TIMESTAMP}")}
        """
    ).fetchnumpy()
    corrected = positions.copy()
    corrected[found["number"]] = found["position"]
    return corrected


def _numbered(requests: pa.Table, names: Sequence[str], numbers: NDArray[np.intp] | None = None) -> pa.Table:
    rows = np.arange(len(requests)) if numbers is None else numbers
    return requests.select(list(dict.fromkeys(names))).append_column("number", pa.array(rows))


_LATEST_US = 2**62


def _micros(column: str) -> str:
    return f"epoch_us({column})"


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'
