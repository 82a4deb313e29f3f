"""Reads what was ever loaded of some entities, row by row, as the files have it: to check what others made of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flywheel.adapters.attribute_lake import load_files
from flywheel.adapters.point_in_time import CREATED, TIMESTAMP
from flywheel.contracts.events import to_us
from flywheel.kernel.attributes import AttributeLoad, AttributeRow, AttributeTable
from flywheel.kernel.features import split_id
from flywheel.kernel.ports import Unavailable


def loads_of(lake: Path, table: AttributeTable, entity_ids: Collection[str]) -> dict[str, list[AttributeLoad]]:
    """All loads of these entities in the lake of one use case, by entity; one without any is not in the result.

    Raises Unavailable while files are being replaced.
    """
    found: dict[str, list[AttributeLoad]] = defaultdict(list)
    # Of a key of several fields the first narrows it down.
    firsts = pa.array(sorted({split_id(entity_id)[0] for entity_id in entity_ids}), pa.string())
    try:
        for file in load_files(lake, table):
            for load in _rows(file, table, firsts):
                if load.row.entity_id in entity_ids:
                    found[load.row.entity_id].append(load)
    except FileNotFoundError as error:
        raise Unavailable(f"the loads of {table.name} are being written anew: {error}") from error
    return found


def _rows(file: Path, table: AttributeTable, firsts: pa.Array) -> Iterator[AttributeLoad]:
    keys = table.entity.keys
    with pq.ParquetFile(file) as rows:
        # A column that was declared later is not in the files of before.
        names = [name for name in map(table.stored_name, table.columns) if name in rows.schema_arrow.names]
        for batch in rows.iter_batches(columns=[*keys, TIMESTAMP, CREATED, *names]):
            for each in batch.filter(pc.is_in(batch[keys[0]], firsts)).to_pylist():
                values = tuple(each.get(table.stored_name(column)) for column in table.columns)
                row = AttributeRow(tuple(each[key] for key in keys), to_us(each[TIMESTAMP]), values)
                yield AttributeLoad(row, to_us(each[CREATED]))
