"""Removes rows from Parquet files: each file is written anew beside the old one and then put in its place.

A crash leaves the old file or the new one, never half of one. A file that loses all its rows stays, empty: whoever has
just listed the directory would miss it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flywheel.adapters.durable_files import LEFT_BEHIND, replacing

_ROWS_AT_ONCE = 131_072
_ARRIVALS = ("ingest_time", "decided_at")


@dataclass(frozen=True)
class Rows:
    """Which rows go: those that have all values of one of `equal`, or in any column one of the values `among`, and that
    arrived by `until_us`.

    What names a column that a file does not have says nothing; rows without an arrival time count as arrived.
    """

    equal: Sequence[Mapping[str, str]]
    among: Mapping[str, Collection[str]] = field(default_factory=dict)
    until_us: int | None = None

    @property
    def columns(self) -> frozenset[str]:
        """Columns by which a row is recognized."""
        return frozenset(self.among).union(*self.equal)

    def mask(self, table: pa.Table) -> pa.ChunkedArray:
        """True for each row that goes."""
        found = pa.chunked_array([pa.repeat(False, table.num_rows)])
        for wanted in self.equal:
            if wanted.keys() <= set(table.column_names):
                found = pc.or_(found, _all_equal(table, wanted))
        for name, values in self.among.items():
            if name in table.column_names:
                found = pc.or_(found, pc.is_in(table[name].cast(pa.string()), pa.array(list(values), pa.string())))
        for name in _ARRIVALS:
            if self.until_us is not None and name in table.column_names:
                until = pa.scalar(self.until_us, pa.timestamp("us", "UTC"))
                arrived = table[name].cast(pa.timestamp("us", "UTC"))
                found = pc.and_(found, pc.fill_null(pc.less_equal(arrived, until), True))
        return found


def _all_equal(table: pa.Table, values: Mapping[str, str]) -> pa.ChunkedArray:
    found = pa.chunked_array([pa.repeat(True, table.num_rows)])
    for name, value in values.items():
        found = pc.and_(found, pc.fill_null(pc.equal(table[name].cast(pa.string()), value), False))
    return found


def count(directory: Path, rows: Rows) -> int:
    """How many rows below the directory would go."""
    return sum(_found(file, rows) for file in files(directory))


def remove(directory: Path, rows: Rows) -> int:
    """How many rows below the directory went. Nobody else may write there meanwhile."""
    removed = 0
    for file in files(directory):
        found = _found(file, rows)
        if found:
            _rewrite(file, rows)
            removed += found
    return removed


def values(directory: Path, column: str, rows: Rows) -> set[str]:
    """What the column holds in the rows that would go, over all files that have it."""
    found: set[str] = set()
    for file in files(directory):
        if column in pq.read_schema(file).names and _found(file, rows):
            wanted = _read(file, rows, also=column)
            found.update(wanted.filter(rows.mask(wanted))[column].to_pylist())
    return found


def files(directory: Path) -> Iterator[Path]:
    """Parquet files below the directory that readers see."""
    for file in sorted(directory.glob("**/*.parquet")):
        if not any(part.startswith((".", "_")) for part in file.relative_to(directory).parts):
            yield file


def sweep(directory: Path) -> int:
    """Removes what killed writers left below the directory: files half written and stages never committed."""
    left = [path for name in (LEFT_BEHIND, ".spark-staging-*", "_temporary") for path in directory.glob(f"**/{name}")]
    for path in left:
        _discard(path)
    return len(left)


def _found(file: Path, rows: Rows) -> int:
    if not rows.columns & set(pq.read_schema(file).names):
        return 0
    return pc.sum(rows.mask(_read(file, rows))).as_py() or 0


def _read(file: Path, rows: Rows, also: str | None = None) -> pa.Table:
    known = pq.read_schema(file).names
    wanted = {*rows.columns, *_ARRIVALS, *([also] if also else [])}
    # As a file and not as a data set: the directories' names are no columns of it.
    return pq.ParquetFile(file).read([name for name in known if name in wanted])


def _rewrite(file: Path, rows: Rows) -> None:
    source = pq.ParquetFile(file)
    with replacing(file) as sink:
        with pq.ParquetWriter(sink, source.schema_arrow) as writer:
            for batch in source.iter_batches(_ROWS_AT_ONCE):
                table = pa.Table.from_batches([batch], source.schema_arrow)
                writer.write_table(table.filter(pc.invert(rows.mask(table))))
        # Spark checks a file against the sum beside it, which is the old one's.
        file.with_name(f".{file.name}.crc").unlink(missing_ok=True)


def _discard(path: Path) -> None:
    if path.is_dir():
        for inner in path.iterdir():
            _discard(inner)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
