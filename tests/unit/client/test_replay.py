"""A person's own events from a file: same door, clear words about what is wrong with which row."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.client.errors import ClientError
from flywheel.client.replay import Summary, aligned, replay
from flywheel.client.rows import Row, read_rows
from flywheel.kernel import catalog
from usecases.fraud.events import Transaction

START = datetime(2018, 4, 1, tzinfo=UTC)
ROWS: list[dict[str, Any]] = [
    {
        "event_id": f"own-{n}",
        "event_time": START + timedelta(seconds=10 * n),
        "card_id": "c1",
        "terminal_id": "t1",
        "amount_cents": 100 + n,
    }
    for n in range(8)
]


def as_text(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "event_time": row["event_time"].isoformat()}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    match path.suffix:
        case ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(as_text(row) for row in rows)
        case ".jsonl":
            path.write_bytes(b"\n".join(orjson.dumps(as_text(row)) for row in rows))
        case _:
            pq.write_table(pa.Table.from_pylist(rows), path)
    return path


async def run(ingest: Any, rows: Any, speedup: float | None = None, *, backfilled: bool = True) -> Summary:
    return await replay(
        rows,
        "transaction",
        ingest.client(),
        speedup=speedup,
        backfilled=backfilled,
        report=lambda _: None,
        sleep=ingest.pause,
    )


@pytest.mark.parametrize("name", ["events.csv", "events.jsonl", "events.parquet"])
async def test_each_format_brings_the_same_events(name: str, ingest: Any, tmp_path: Path) -> None:
    summary = await run(ingest, read_rows(write(tmp_path / name, ROWS), Transaction, "transaction"))
    assert str(summary) == "8 accepted, 0 rejected"
    assert [Transaction.model_validate(item).model_dump() for _, item in ingest.kept] == ROWS


@pytest.mark.parametrize("backfilled", [True, False])
async def test_ingest_is_told_whether_rows_are_backfilled(ingest: Any, backfilled: bool) -> None:
    await run(ingest, [Row(n, as_text(row)) for n, row in enumerate(ROWS, 1)], backfilled=backfilled)
    assert ingest.backfilled == [backfilled] * len(ROWS)


async def test_rejections_name_row_field_and_reason(ingest: Any, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(
        "event_id,event_time,card_id,terminal_id,amount_cents\n"
        "a,2018-04-01T00:00:00Z,c1,t1,12\n"
        "b,2018-04-01T00:00:00Z,c1,t1,twelve\n"
        "c,2018-04-01T00:00:00Z,c1,t1\n"
        "d,2018-04-01T00:00:00Z,c1,,12\n"
    )
    summary = await run(ingest, read_rows(path, Transaction, "transaction"))
    assert (summary.accepted, summary.rejected) == (1, 3)
    reasons = summary.first_rejections
    assert reasons[0].startswith("row 2: amount_cents: ")
    assert reasons[1] == "row 3: 4 cells, but the header has 5"
    assert reasons[2].startswith("row 4: terminal_id: ")


async def test_a_line_that_is_not_json_is_rejected_alone(ingest: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "events.jsonl", ROWS[:2])
    path.write_bytes(path.read_bytes() + b"\n{oops\n[1]\n")
    summary = await run(ingest, read_rows(path, Transaction, "transaction"))
    assert summary.accepted == 2
    assert [line.partition(":")[0] for line in summary.first_rejections] == ["row 3", "row 4"]


def test_wrong_columns_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("event_id,event_time,card,terminal_id,amount_cents\n")
    with pytest.raises(ClientError, match=r"missing card_id; unknown card$"):
        list(read_rows(path, Transaction, "transaction"))


@pytest.mark.parametrize(("name", "content"), [("events.xlsx", b""), ("broken.parquet", b"PAR0")])
def test_other_files_are_refused_in_a_sentence(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ClientError, match=name):
        list(read_rows(tmp_path / name, Transaction, "transaction"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=r"nowhere\.csv"):
        read_rows(tmp_path / "nowhere.csv", Transaction, "transaction")


async def test_the_recorded_pace_is_kept_and_sped_up(ingest: Any) -> None:
    rows = [Row(n, as_text(row)) for n, row in enumerate(ROWS, 1)]
    await run(ingest, rows, speedup=10.0)
    # Ten seconds lie between rows: one second each when sped up by ten. Nothing has been slept really, so every
    # wait counts from the start.
    assert ingest.pauses == pytest.approx([1, 2, 3, 4, 5, 6, 7], abs=0.3)
    assert len(ingest.kept) == 8


async def test_without_a_pace_nothing_waits(ingest: Any) -> None:
    await run(ingest, [Row(n, as_text(row)) for n, row in enumerate(ROWS, 1)])
    assert ingest.pauses == []


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_csv_in_another_encoding_is_refused_before_anything_is_read(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    header = "event_id,event_time,card_id,terminal_id,amount_cents\n"
    path.write_text(header + "a,2018-04-01T00:00:00Z,café,t1,12\n", encoding=encoding)
    where = {"latin-1": r"line 2, byte 27: 0xe9", "utf-16": r"line 1, byte 1: 0xff"}[encoding]
    with pytest.raises(ClientError, match=rf"^events\.csv is not UTF-8 \({where}\); save it as UTF-8$"):
        next(read_rows(path, Transaction, "transaction"))


def test_letters_beyond_ascii_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    header = "event_id,event_time,card_id,terminal_id,amount_cents\n"
    path.write_text(header + "a,2018-04-01T00:00:00Z,café,t1,12\n", encoding="utf-8-sig")
    assert [(row.fields["event_id"], row.fields["card_id"]) for row in read_rows(path, Transaction, "transaction")] == [
        ("a", "café")
    ]


def test_what_would_be_right_is_told_once_after_the_first_rejections() -> None:
    summary = Summary()
    for row in range(1, 8):
        summary.reject(row, "event_time: ahead", ["event_time: align it"] if row < 6 else ["never shown"])
    assert str(summary).splitlines()[-2:] == ["… and 2 more", "hint: event_time: align it"]


async def test_ingest_s_hint_reaches_the_summary(ingest: Any) -> None:
    summary = await run(ingest, [Row(1, {**as_text(ROWS[0]), "amount_cents": "much"})])
    assert str(summary).splitlines()[-1] == "hint: amount_cents: as declared"


def test_only_the_first_rejections_are_shown() -> None:
    summary = Summary()
    for row in range(8):
        summary.reject(row, "bad")
    assert str(summary).splitlines()[-1] == "… and 3 more"


EXAMPLE = Path(catalog.__file__).parents[2] / "usecases" / "fraud" / "examples" / "payments.csv"


async def test_the_example_is_taken_whole_at_the_stream_s_present(ingest: Any) -> None:
    present = datetime(2018, 6, 1, 12, tzinfo=UTC)
    summary = await run(ingest, aligned(read_rows(EXAMPLE, Transaction, "transaction"), present))
    assert (summary.accepted, summary.rejected) == (48, 0)
    times = [datetime.fromisoformat(event["event_time"]) for _, event in ingest.kept]
    assert times[0] == present
    assert times == sorted(times)
    # Beside a playing world the stream's clock must not be carried far ahead of it.
    assert times[-1] - present < timedelta(minutes=30)
    # Windows of a card are to be seen moving.
    assert max(Counter(event["card_id"] for _, event in ingest.kept).values()) > 5
