"""Rows go from Parquet files; whatever else is in them stays, and a crash leaves a whole file."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.adapters.parquet_erasure import Rows, count, remove, sweep, values

UTC_US = pa.timestamp("us", "UTC")
MINE = Rows([{"card_id": "c1"}], until_us=10)


def write(path: Path, **columns: object) -> pa.Table:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns).replace_schema_metadata({"org.apache.spark.version": "4.2.0"})
    pq.write_table(table, path)
    return table


def archive(directory: Path) -> Path:
    path = directory / "event_date=2018-04-01" / "batch_id=0" / "part-0.parquet"
    write(
        path,
        card_id=["c1", "c2", None, "c1", "c12"],
        event_id=["a", "b", "c", "d", "e"],
        ingest_time=pa.array([1, 2, 3, 11, 5], UTC_US),
    )
    return path


def test_only_rows_that_arrived_before_go(tmp_path: Path) -> None:
    path = archive(tmp_path)
    before = pq.read_schema(path)
    assert count(tmp_path, MINE) == 1
    assert remove(tmp_path, MINE) == 1
    assert pq.ParquetFile(path).read()["event_id"].to_pylist() == ["b", "c", "d", "e"]
    assert pq.read_schema(path).equals(before, check_metadata=True)
    assert remove(tmp_path, MINE) == 0


def test_rows_are_found_by_any_of_several_ways(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    write(path, unit=["c1", "x", "y"], event_id=["a", "b", "c"])
    rows = Rows([{"card_id": "c1"}, {"unit": "c1"}], {"event_id": {"b"}, "transaction_id": {"c"}})
    assert remove(tmp_path, rows) == 2
    assert pq.read_table(path)["event_id"].to_pylist() == ["c"]


def test_an_id_of_several_fields_needs_all_of_them(tmp_path: Path) -> None:
    write(tmp_path / "part.parquet", card_id=["c1", "c1"], terminal_id=["t1", "t2"])
    assert remove(tmp_path, Rows([{"card_id": "c1", "terminal_id": "t1"}])) == 1
    assert count(tmp_path, Rows([{"card_id": "c1", "device": "d"}])) == 0


def test_a_file_that_loses_everything_stays(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    write(path, card_id=["c1", "c1"])
    assert remove(tmp_path, MINE) == 2
    assert pq.read_metadata(path).num_rows == 0


def test_values_of_the_rows_that_would_go(tmp_path: Path) -> None:
    archive(tmp_path)
    write(tmp_path / "other.parquet", card_id=["c1"])
    assert values(tmp_path, "event_id", MINE) == {"a"}
    assert values(tmp_path / "nowhere", "event_id", MINE) == set()


def test_other_files_are_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    write(path, card_id=["c2"])
    written = path.stat()
    assert remove(tmp_path, MINE) == 0
    assert path.stat() == written


def test_a_stale_checksum_goes_with_the_file_it_was_of(tmp_path: Path) -> None:
    path = archive(tmp_path)
    (path.parent / ".part-0.parquet.crc").write_bytes(b"sum")
    remove(tmp_path, MINE)
    assert [file.name for file in path.parent.iterdir()] == ["part-0.parquet"]


def test_a_crash_before_the_replacement_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path)
    old = path.read_bytes()

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            remove(tmp_path, MINE)
    assert path.read_bytes() == old
    assert len(list(path.parent.iterdir())) == 2
    assert sweep(tmp_path) == 1
    assert remove(tmp_path, MINE) == 1
    assert [file.name for file in path.parent.iterdir()] == ["part-0.parquet"]


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    write(tmp_path / "transaction" / ".spark-staging-1" / "event_date=x" / "part.parquet", card_id=["c1"])
    write(tmp_path / "transaction" / "_temporary" / "0" / "part.parquet", card_id=["c1"])
    kept = archive(tmp_path / "transaction")
    assert count(tmp_path, MINE) == 1
    assert sweep(tmp_path) == 2
    assert [path for path in tmp_path.glob("**/*") if path.is_file()] == [kept]


def test_batches_of_a_large_file_keep_their_order(tmp_path: Path) -> None:
    number = 300_000
    write(
        tmp_path / "part.parquet", card_id=["c1" if row % 3 == 0 else "c2" for row in range(number)], row=range(number)
    )
    assert remove(tmp_path, MINE) == number // 3
    assert pq.read_table(tmp_path / "part.parquet")["row"].to_pylist() == [row for row in range(number) if row % 3]
