"""A folder of the lake knows its stream and its rows across restarts."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.adapters.lake_folder import StreamMarker, rows_by_batch


def test_a_folder_keeps_the_first_stream_that_claims_it(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    assert StreamMarker(folder).source() is None
    assert StreamMarker(folder).claim("first") == "first"
    assert StreamMarker(folder).claim("second") == "first"
    assert StreamMarker(folder).source() == "first"


def test_rows_of_a_batch_count_over_all_dates_and_files_and_no_others(tmp_path: Path) -> None:
    def write(place: str, rows: int) -> None:
        file = tmp_path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"number": list(range(rows))}), file)

    write("event_date=2026-01-01/batch_id=7/one.parquet", 3)
    write("event_date=2026-01-01/batch_id=7/two.parquet", 1)
    write("event_date=2026-01-02/batch_id=7/one.parquet", 2)
    write("event_date=2026-01-02/batch_id=11/one.parquet", 5)
    write(".spark-staging-1/event_date=2026-01-02/batch_id=12/one.parquet", 9)
    assert rows_by_batch(tmp_path) == {7: 6, 11: 5}
    assert rows_by_batch(tmp_path / "absent") == {}
