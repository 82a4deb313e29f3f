"""Dead letters in the lake: one Parquet file a micro-batch that had any, and how many records there ever were."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.adapters.durable_files import write
from flywheel.kernel.dead_letters import DeadLetter

FOLDER = "dead_letters"
_SCHEMA = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("received_us", pa.int64()),
        ("fault", pa.string()),
        ("detail", pa.string()),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("size_bytes", pa.int64()),
    ]
)


class DeadLetterFolder:
    """The newest `most` letters or a batch more, below `directory`; a batch that comes again replaces its own."""

    def __init__(self, directory: Path, *, most: int = 10_000) -> None:
        self._directory = directory
        self._most = most

    def write(self, batch_id: int, letters: Sequence[DeadLetter], seen: Mapping[str, int]) -> None:
        """Keeps the letters of a micro-batch and adds what was seen in it to what was seen before."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._count(batch_id, seen)
        if letters:
            _replace(self._file(batch_id), letters)
        self._forget_oldest()

    def letters(self) -> list[DeadLetter]:
        """Those that are kept, oldest first."""
        return [letter for file in self._files() for letter in _read(file)]

    def seen(self) -> dict[str, int]:
        """How many records there were in all, kept or not, by what became of them."""
        _, before, in_batch = self._accounts()
        return _sum(before, in_batch)

    def kept(self) -> int:
        """How many letters are kept."""
        return sum(pq.read_metadata(file).num_rows for file in self._files())

    def remove(self, unwanted: Callable[[DeadLetter], bool]) -> int:
        """How many letters went. Nobody else may write meanwhile."""
        removed = 0
        for file in self._files():
            letters = list(_read(file))
            kept = [letter for letter in letters if not unwanted(letter)]
            if len(kept) < len(letters):
                _replace(file, kept)
                removed += len(letters) - len(kept)
        return removed

    def _count(self, batch_id: int, seen: Mapping[str, int]) -> None:
        last, before, in_batch = self._accounts()
        before = before if last == batch_id else _sum(before, in_batch)
        content = orjson.dumps({"batch_id": batch_id, "before": before, "in_batch": dict(seen)})
        write(self._directory / "seen.json", content)

    def _accounts(self) -> tuple[int | None, dict[str, int], dict[str, int]]:
        """The last batch that had any, what was seen before it and what in it."""
        path = self._directory / "seen.json"
        if not path.exists():
            return None, {}, {}
        found = orjson.loads(path.read_bytes())
        return found["batch_id"], found["before"], found["in_batch"]

    def _forget_oldest(self) -> None:
        rows = 0
        for file in reversed(list(self._files())):
            if rows >= self._most:
                file.unlink()
            else:
                rows += pq.read_metadata(file).num_rows

    def _file(self, batch_id: int) -> Path:
        return self._directory / f"batch-{batch_id:012d}.parquet"

    def _files(self) -> Iterator[Path]:
        return iter(sorted(self._directory.glob("batch-*.parquet")))


def _sum(before: Mapping[str, int], in_batch: Mapping[str, int]) -> dict[str, int]:
    return {name: before.get(name, 0) + in_batch.get(name, 0) for name in sorted({*before, *in_batch})}


def _read(file: Path) -> Iterator[DeadLetter]:
    return (DeadLetter(**row) for row in pq.ParquetFile(file).read().to_pylist())


def _replace(file: Path, letters: Sequence[DeadLetter]) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([asdict(letter) for letter in letters], _SCHEMA), sink)
    write(file, sink.getvalue().to_pybytes())
