"""A file of attributes is checked whole before anything is loaded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.adapters.feast_layout import encode_time
from flywheel.client.attributes import rows_in, table_named
from flywheel.client.errors import ClientError
from flywheel.contracts.events import EPOCH, to_us
from flywheel.kernel import catalog
from flywheel.kernel.attributes import AttributeRow
from flywheel.kernel.stored_times import decode_time
from tests.attribute_scene import PROFILE, USECASE

AS_OF = datetime(2018, 4, 1, tzinfo=UTC)
NOW = datetime(2018, 5, 1, tzinfo=UTC)
AS_OF_US = to_us(AS_OF)
COLUMNS = "terminal_id,floor_limit_cents,opened_days"


def quiet(_line: str) -> None: ...


def read(path: Path) -> list[AttributeRow]:
    return [row for row, _ in rows_in(path, PROFILE, AS_OF, NOW, quiet)]


def write(directory: Path, text: str, name: str = "profile.csv") -> Path:
    path = directory / name
    path.write_text(text)
    return path


def test_csv_json_lines_and_parquet_are_the_same(tmp_path: Path) -> None:
    wanted = [AttributeRow(("7",), AS_OF_US, (5_000.0, None)), AttributeRow(("t2",), AS_OF_US + 1, (None, 3.0))]
    csv = "terminal_id,floor_limit_cents,opened_days,as_of\n7,5000,,\nt2,,3,2018-04-01T00:00:00.000001Z\n"
    lines = (
        '{"terminal_id": "7", "floor_limit_cents": 5000, "opened_days": null}\n'
        '{"terminal_id": "t2", "floor_limit_cents": null, "opened_days": 3,'
        ' "as_of": "2018-04-01T00:00:00.000001+00:00"}\n'
    )
    table = pa.table(
        {
            "terminal_id": ["7", "t2"],
            "floor_limit_cents": pa.array([5000, None], pa.int32()),
            "opened_days": [None, 3.0],
            "as_of": pa.array([None, AS_OF_US + 1], pa.timestamp("us", "UTC")),
        }
    )
    pq.write_table(table, tmp_path / "profile.parquet")
    assert read(write(tmp_path, csv)) == wanted
    assert read(write(tmp_path, lines, "profile.jsonl")) == wanted
    assert read(tmp_path / "profile.parquet") == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{COLUMNS}\nt1,much,\n", r"row 1: floor_limit_cents: .*number.*nothing was loaded"),
        (f"{COLUMNS}\nt1,1,\nt2,inf,\n", r"row 2: floor_limit_cents: .*finite"),
        (f"{COLUMNS}\n,1,\n", r"row 1: terminal_id: "),
        (f"{COLUMNS}\nt1,1,\nt1,2,\n", r"row 2: t1 is there already, in row 1"),
        (f"{COLUMNS},as_of\nt1,1,,2018-06-01T02:00:00+02:00\n", r"row 1: .*T02:00:00\+02:00 has not come"),
        (f"{COLUMNS},as_of\nt1,1,,2018-04-01T00:00:00\n", r"row 1: as_of: .*timezone"),
        (f"{COLUMNS},limit\nt1,1,,1\n", r"unknown limit"),
        ("floor_limit_cents\n1\n", r"missing terminal_id, opened_days"),
        ("terminal_id,floor_limit_cents,as_of\nt1,1,\n", r"missing opened_days"),
        (f"{COLUMNS},opened_days\nt1,1,,3\n", r"twice opened_days"),
        (f"{COLUMNS}\n", r"has no rows"),
        (f"{COLUMNS}\nt1\n", r"row 1: 1 cells, but the header has 3"),
    ],
)
def test_a_wrong_file_is_refused_with_row_and_reason(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ClientError, match=message):
        read(write(tmp_path, text))


def test_moments_that_the_store_cannot_hold_are_refused_wherever_they_are_said(tmp_path: Path) -> None:
    before = EPOCH - timedelta(microseconds=1)
    message = r"row 1: 1969-12-31T23:59:59.999999\+00:00 is before 1970.*say 1970-01-01T00:00:00Z"
    for as_of, text in (AS_OF, f"{COLUMNS},as_of\nt1,1,,{before.isoformat()}\n"), (before, f"{COLUMNS}\nt1,1,\n"):
        with pytest.raises(ClientError, match=message):
            rows_in(write(tmp_path, text), PROFILE, as_of, NOW, quiet)
    (row,) = read(write(tmp_path, f"{COLUMNS},as_of\nt1,1,,1970-01-01T00:00:00Z\n"))
    assert decode_time(encode_time(row.as_of_us)) == row.as_of_us == 0


def test_a_column_that_is_not_there_is_no_column_of_nulls(tmp_path: Path) -> None:
    lines = (
        '{"terminal_id": "t1", "floor_limit_cents": 1, "opened_days": null}\n{"terminal_id": "t2", "opened_days": 1}\n'
    )
    with pytest.raises(ClientError, match=r"row 2: floor_limit_cents: field required"):
        read(write(tmp_path, lines, "profile.jsonl"))
    pq.write_table(pa.table({"terminal_id": ["t1"], "opened_days": [1.0]}), tmp_path / "profile.parquet")
    with pytest.raises(ClientError, match=r"missing floor_limit_cents"):
        read(tmp_path / "profile.parquet")


def test_an_unknown_table_is_answered_with_those_there_are() -> None:
    with pytest.raises(ClientError, match="its tables are terminal_profile, segments, trust"):
        table_named(USECASE, "profiles")
    with pytest.raises(ClientError, match="declares no attributes"):
        table_named(catalog.load("fraud"), "terminal_profile")


def test_a_flag_is_no_number(tmp_path: Path) -> None:
    line = '{"terminal_id": "t1", "floor_limit_cents": true, "opened_days": null}\n'
    with pytest.raises(ClientError, match=r"row 1: floor_limit_cents: .*write 1 or 0"):
        read(write(tmp_path, line, "profile.jsonl"))
