"""A folder of the lake that a stream fills: whose it is, and how many rows each micro-batch left in it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq


class StreamMarker:
    """Remembers in a directory which stream fills it."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / ".source"

    def source(self) -> str | None:
        """The id of the stream; None in a new directory."""
        return self._file.read_text() if self._file.exists() else None

    def claim(self, source: str) -> str:
        """The id of the stream: `source` if the directory had none before, which it then keeps."""
        if self.source() is None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(source)
        return self.source() or source


def rows_by_batch(directory: Path) -> dict[int, int]:
    """How many rows each micro-batch has below the directory's dates."""
    rows: dict[int, int] = defaultdict(int)
    for file in directory.glob("*_date=*/batch_id=*/*.parquet"):
        rows[int(file.parent.name.partition("=")[2])] += pq.read_metadata(file).num_rows
    return dict(rows)
