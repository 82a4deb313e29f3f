"""Reads a person's own events, or other rows, from CSV, JSON Lines or Parquet, row by row."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import orjson
from pydantic import BaseModel

from flywheel.client.errors import ClientError
from flywheel.client.fields import from_text, to_json

FORMATS = {".csv": "CSV", ".jsonl": "JSON Lines", ".ndjson": "JSON Lines", ".parquet": "Parquet"}
_ROWS_AT_ONCE = 4_096


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the file: its number (the first is 1, a CSV header not counted) and its fields, or why it has none."""

    number: int
    fields: Mapping[str, Any]
    unreadable: str | None = None


def read_rows(path: Path, schema: type[BaseModel], name: str) -> Iterator[Row]:
    """The rows in the file's order. Raises ClientError when the file's columns do not fit.

    An empty cell is null in a field that every row must have and that may be null, and left out in any other. `name` is
    what a row is called in messages.
    """
    if not path.is_file():
        raise ClientError(f"there is no file {path}")
    match FORMATS.get(path.suffix.lower()):
        case "CSV":
            return _read_csv(path, schema, name)
        case "JSON Lines":
            return _read_json_lines(path)
        case "Parquet":
            return _read_parquet(path, schema, name)
        case _:
            raise ClientError(f"{path.name}: cannot tell the format; the name must end in {', '.join(FORMATS)}")


def _read_csv(path: Path, schema: type[BaseModel], name: str) -> Iterator[Row]:
    _check_encoding(path)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        names = next(reader, [])
        _check_columns(path, names, schema, name)
        nulls = _nulls(schema)
        for number, cells in enumerate((cells for cells in reader if cells), 1):
            if len(cells) != len(names):
                yield Row(number, {}, f"{len(cells)} cells, but the header has {len(names)}")
                continue
            pairs = zip(names, cells, strict=True)
            yield Row(number, nulls | {field: from_text(schema, field, cell) for field, cell in pairs if cell})


def _read_json_lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                fields = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                yield Row(number, {}, f"not JSON: {error}")
                continue
            if isinstance(fields, dict):
                yield Row(number, fields)
            else:
                yield Row(number, {}, "not a JSON object")


def _read_parquet(path: Path, schema: type[BaseModel], name: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ClientError(f"{path.name} is not a Parquet file: {error}") from error
    with file:
        _check_columns(path, file.schema_arrow.names, schema, name)
        number, nulls = 0, _nulls(schema)
        for batch in file.iter_batches(_ROWS_AT_ONCE):
            for values in batch.to_pylist():
                number += 1
                there = {field: to_json(value) for field, value in values.items() if value is not None}
                yield Row(number, nulls | there)


def _check_encoding(path: Path) -> None:
    """Raises ClientError before any row is sent: half a file would be harder to put right."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                raise ClientError(
                    f"{path.name} is not UTF-8 (line {number}, byte {error.start + 1}: 0x{line[error.start]:02x}); "
                    "save it as UTF-8"
                ) from None


def _nulls(schema: type[BaseModel]) -> dict[str, None]:
    """Null for every field that must be there and may be null: an empty cell of it says so."""
    fields = schema.model_fields.items()
    return {name: None for name, field in fields if field.is_required() and type(None) in get_args(field.annotation)}


def _check_columns(path: Path, names: Sequence[str], schema: type[BaseModel], name: str) -> None:
    there = set(names)
    twice = sorted({n for n in names if names.count(n) > 1})
    unknown = sorted(there - schema.model_fields.keys())
    missing = [n for n, field in schema.model_fields.items() if field.is_required() and n not in there]
    faults = {"missing": missing, "unknown": unknown, "twice": twice}
    wrong = [f"{fault} {', '.join(columns)}" for fault, columns in faults.items() if columns]
    if wrong:
        raise ClientError(
            f"{path.name}: the columns must be the fields of {name!r} "
            f"({', '.join(schema.model_fields)}); {'; '.join(wrong)}"
        )
