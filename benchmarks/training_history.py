"""A synthetic feature history and requests to join to it, drawn from a seed and written as Parquet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flywheel.adapters.point_in_time import HistorySource
from flywheel.kernel.durations import DAY_US, SECOND_US

START_US = 17_622 * DAY_US
SPAN_US = 90 * DAY_US
FEATURES_EACH = 15
FILES = 4
ROWS_PER_CARD, ROWS_PER_TERMINAL = 50, 100
TIED_SHARE = 0.01
"""Rows at the same moment as another of their entity, created at another time."""

_MOMENT = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Drawn:
    """Where a drawn set lies. `sources` have one key each."""

    requests: Path
    sources: tuple[HistorySource, ...]


def draw(directory: Path, rows: int, seed: int) -> Drawn:
    """`rows` requests in order of time, and as many rows of history for each of two entities."""
    rng = np.random.default_rng(seed)
    sources = tuple(
        _view(rng, directory, key, rows, entities=max(rows // each, 1))
        for key, each in (("card_id", ROWS_PER_CARD), ("terminal_id", ROWS_PER_TERMINAL))
    )
    requests = pa.table(
        {
            "row": np.arange(rows),
            "card_id": _ids("card_id", rng.integers(0, max(rows // ROWS_PER_CARD, 1), rows)),
            "terminal_id": _ids("terminal_id", rng.integers(0, max(rows // ROWS_PER_TERMINAL, 1), rows)),
            "event_timestamp": pa.array(np.sort(_times_us(rng, rows))).cast(_MOMENT),
        }
    )
    pq.write_table(requests, directory / "requests.parquet")
    return Drawn(directory / "requests.parquet", sources)


def _view(rng: np.random.Generator, directory: Path, key: str, rows: int, *, entities: int) -> HistorySource:
    """A view's history in the layout of the features service: by entity, then by time, in a few files."""
    owners, times_us = rng.integers(0, entities, rows), _times_us(rng, rows)
    tied = rng.integers(1, rows, int(rows * TIED_SHARE))
    owners[tied], times_us[tied] = owners[tied - 1], times_us[tied - 1]
    order = np.lexsort((times_us, owners, owners % FILES))
    owners, times_us = owners[order], times_us[order]
    columns = {
        key: _ids(key, owners),
        "event_timestamp": pa.array(times_us).cast(_MOMENT),
        "created_timestamp": pa.array(START_US + rng.permutation(rows)).cast(_MOMENT),
    }
    names = tuple(f"{key}_feature_{number}" for number in range(FEATURES_EACH))
    for number, name in enumerate(names):
        # Counts, then amounts.
        columns[name] = pa.array(rng.poisson(5, rows).astype(float) if number % 3 == 0 else rng.gamma(2, 40, rows))
    table = pa.table(columns)
    (directory / key).mkdir(parents=True)
    bounds = np.searchsorted(owners % FILES, np.arange(FILES + 1))
    for number in range(FILES):
        part = table.slice(bounds[number], bounds[number + 1] - bounds[number])
        pq.write_table(part, directory / key / f"part-{number:05}.parquet")
    return HistorySource(key, directory / key, ((key, key),), names)


def _times_us(rng: np.random.Generator, rows: int) -> NDArray[np.int64]:
    """Whole seconds: as payments are timed."""
    return START_US + rng.integers(0, SPAN_US // SECOND_US, rows) * SECOND_US


def _ids(key: str, numbers: NDArray[np.int64]) -> pa.Array:
    names = pa.array([f"{key[0]}{number:08}" for number in range(int(numbers.max()) + 1)])
    return names.take(pa.array(numbers))
