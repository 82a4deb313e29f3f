"""What the training set's benchmark joins, and that its oracle notices a wrong cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.training_history import draw
from benchmarks.training_joins import by_hand, ours, sources_in
from benchmarks.training_set import feast_mismatches, oracle_mismatches

ROWS = 3_000


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("training") / "drawn"
    assert draw(found, ROWS, 5).sources == tuple(sources_in(found))
    pq.write_table(ours(found)(), found / "ours.parquet")
    return found


def test_ours_equals_the_oracle_and_a_wrong_cell_does_not(directory: Path) -> None:
    assert oracle_mismatches(directory, 5) == 0
    table = pq.read_table(directory / "ours.parquet")
    name = sources_in(directory)[1].features[-1]
    place = table.column_names.index(name)
    shifted = pa.array(np.roll(table[name].to_numpy(), 1))
    pq.write_table(table.set_column(place, name, shifted), directory / "ours.parquet")
    assert oracle_mismatches(directory, 5) > 100
    pq.write_table(table, directory / "ours.parquet")


def test_rows_are_compared_whatever_their_order(directory: Path) -> None:
    table = pq.read_table(directory / "ours.parquet")
    pq.write_table(table.take(np.random.default_rng(1).permutation(ROWS)), directory / "feast.parquet")
    assert feast_mismatches(directory) == 0
    pq.write_table(table[1:], directory / "feast.parquet")
    assert feast_mismatches(directory) == 1


def test_by_hand_differs_in_ties_at_most(directory: Path) -> None:
    pq.write_table(by_hand(directory)(), directory / "feast.parquet")
    assert feast_mismatches(directory) < 0.05 * ROWS * 30
