"""Backfilled events from the record in the log to the history a model learns from, by Spark."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from flywheel.adapters.memory_erasures import MemoryErasures
from flywheel.adapters.spark_archive import Lake
from flywheel.adapters.spark_events import read_archive
from flywheel.contracts.events import Envelope, Event
from flywheel.contracts.topics import event_topic
from flywheel.contracts.training import TrainingRequested
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.plan import compile_plan
from services.features.build import HistoryBuilder
from usecases.fraud import usecase
from usecases.fraud.events import Chargeback, Transaction

pytestmark = pytest.mark.engine

PLAN = compile_plan(usecase)
NOBODY = MemoryErasures(EraseKey(b"key", "fraud"))
START = datetime(2018, 4, 1, tzinfo=UTC)
LOADED = datetime(2026, 1, 1, tzinfo=UTC)
_RECORD = "topic string, partition int, offset long, timestamp timestamp, key binary, value binary"


def payment(day: int) -> Transaction:
    return Transaction(
        event_id=f"tx-{day}",
        event_time=START + timedelta(days=day),
        card_id="c1",
        terminal_id="t1",
        amount_cents=100,
    )


def chargeback(day: int) -> Chargeback:
    """Two days after the payment of that day."""
    paid = payment(day).model_dump() | {"event_id": f"cb-{day}", "event_time": START + timedelta(days=day + 2)}
    return Chargeback(**paid, transaction_id=f"tx-{day}")


def envelope(event: Event, arrived_s: int, *, backfilled: bool) -> bytes:
    arrived = LOADED + timedelta(seconds=arrived_s)
    return Envelope.seal(event, ingest_time=arrived, request_id="r", backfilled=backfilled).to_bytes()


def records(session: SparkSession, values: Sequence[tuple[Event, bytes]]) -> DataFrame:
    rows = [
        (event_topic("fraud", event.event_name).name, 0, offset, LOADED, b"c1", value)
        for offset, (event, value) in enumerate(values)
    ]
    return session.createDataFrame(rows, _RECORD)


def loaded(session: SparkSession, directory: Path, events: list[Event], *, backfilled: bool) -> Lake:
    """A lake in which these arrived a second after one another."""
    lake = Lake(directory, usecase)
    values = [(event, envelope(event, number, backfilled=backfilled)) for number, event in enumerate(events)]
    assert lake.write(records(session, values), 0, NOBODY.current()).archived == len(events)
    return lake


def test_the_lake_says_what_was_backfilled_and_takes_old_files_for_live(session: SparkSession, tmp_path: Path) -> None:
    lake = Lake(tmp_path, usecase)
    old = envelope(payment(0), 0, backfilled=False).replace(b',"backfilled":false', b"")
    assert b"backfilled" not in old
    lake.write(records(session, [(payment(0), old)]), 0, NOBODY.current())
    (file,) = lake.path(Transaction).glob("*/*/*.parquet")
    pq.write_table(pq.ParquetFile(file).read().drop_columns("backfilled"), file)
    file.with_name(f".{file.name}.crc").unlink()
    again = [
        (payment(0), envelope(payment(0), 9, backfilled=True)),
        (payment(1), envelope(payment(1), 1, backfilled=True)),
        (payment(1), envelope(payment(1), 2, backfilled=False)),
        (payment(2), envelope(payment(2), 3, backfilled=False)),
    ]
    lake.write(records(session, again), 1, NOBODY.current())
    found = read_archive(session, str(lake.path(Transaction)), Transaction).collect()
    # An event that came twice is what it was when it came first.
    assert {row["event_id"]: row["backfilled"] for row in found} == {"tx-0": False, "tx-1": True, "tx-2": False}


def history(session: SparkSession, lake: Lake, directory: Path, *, asked_s: int = 3_600) -> dict[str, float]:
    """Chargebacks of the card in thirty days, by payment, in a history that was asked for so long after loading."""
    builder = HistoryBuilder(PLAN, session, lake, directory, NOBODY, kept=1)
    asked = LOADED + timedelta(seconds=asked_s)
    built = builder.build(TrainingRequested(request_id="r", requested_at=asked, reason="test"))
    name = PLAN.views[0].history_name
    rows = session.read.parquet(f"{built.path}/{name}/snapshot={built.snapshot_id}").collect()
    assert built.rows == len(rows)
    return {row["event_id"]: row["card_chargeback_count_30d"] for row in rows}


def test_chargebacks_loaded_after_all_payments_count_by_their_own_time(session: SparkSession, tmp_path: Path) -> None:
    payments, chargebacks = [payment(day) for day in range(6)], [chargeback(day) for day in range(6)]
    known = {f"tx-{day}": max(0.0, day - 1.0) for day in range(6)}
    for name, events in (("after", [*payments, *chargebacks]), ("before", [*chargebacks, *reversed(payments)])):
        lake = loaded(session, tmp_path / name, events, backfilled=True)
        assert history(session, lake, tmp_path / f"history-{name}") == known
    live = loaded(session, tmp_path / "live", [*payments, *chargebacks], backfilled=False)
    assert history(session, live, tmp_path / "history-live") == dict.fromkeys(known, 0.0)


def test_what_is_loaded_after_history_was_asked_for_is_not_in_it(session: SparkSession, tmp_path: Path) -> None:
    events = [payment(0), payment(5), chargeback(0), payment(4), chargeback(1)]
    lake = loaded(session, tmp_path / "lake", events, backfilled=True)
    assert history(session, lake, tmp_path / "history", asked_s=2) == {"tx-0": 0.0, "tx-5": 1.0}
    empty = HistoryBuilder(PLAN, session, lake, tmp_path / "none", NOBODY, kept=1)
    early = TrainingRequested(request_id="r", requested_at=LOADED - timedelta(seconds=1), reason="test")
    with pytest.raises(ValueError, match="no request had arrived"):
        empty.build(early)
