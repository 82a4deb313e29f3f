"""Labels are those that were known, of events that are old enough, each event once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd

from flywheel.contracts.events import from_us
from services.trainer.labels import Known, matured_requests
from tests.integration.services.trainer.conftest import ARRIVED, SmallWorld
from usecases.fraud import usecase


def test_only_matured_events_with_the_labels_of_their_chargebacks(small_world: SmallWorld) -> None:
    until = from_us(small_world.until_us)
    found = matured_requests(small_world.lake, usecase, Known(until), small_world.snapshot).to_pandas()
    transactions, chargebacks = small_world.frames["transaction"], small_world.frames["chargeback"]
    old_enough = transactions[transactions["event_time"] <= until - timedelta(days=7)]
    assert sorted(found["event_id"]) == sorted(old_enough["event_id"])
    assert found["event_time"].is_monotonic_increasing
    named = set(chargebacks["transaction_id"])
    assert 0 < found["label"].sum() < len(found)
    assert set(found.loc[found["label"], "event_id"]) == named & set(old_enough["event_id"])


def test_a_label_that_came_later_is_not_known_yet(small_world: SmallWorld) -> None:
    until = from_us(small_world.until_us) - timedelta(days=20)
    found = matured_requests(small_world.lake, usecase, Known(until), small_world.snapshot).to_pandas()
    chargebacks = small_world.frames["chargeback"]
    known = set(chargebacks.loc[chargebacks["event_time"] <= until, "transaction_id"])
    assert set(found.loc[found["label"], "event_id"]) == known & set(found["event_id"])
    assert found["event_time"].max() <= until - timedelta(days=7)


def test_an_event_archived_twice_counts_once_as_it_came_first(small_world: SmallWorld) -> None:
    until = from_us(small_world.until_us)
    before = matured_requests(small_world.lake, usecase, Known(until), small_world.snapshot).to_pandas()
    again = small_world.frames["transaction"].head(500).assign(amount_cents=1)
    small_world.archive("transaction", again, batch_id=9, ingest_time=ARRIVED + timedelta(minutes=1))
    small_world.archive("chargeback", small_world.frames["chargeback"], batch_id=9, ingest_time=ARRIVED)
    pd.testing.assert_frame_equal(
        matured_requests(small_world.lake, usecase, Known(until), small_world.snapshot).to_pandas(), before
    )


def test_a_label_later_than_maturity_is_not_counted(small_world: SmallWorld, tmp_path: Path) -> None:
    lake = tmp_path
    (lake / "fraud").mkdir()
    (lake / "fraud" / "transaction").symlink_to(small_world.lake / "fraud" / "transaction")
    payments = small_world.frames["transaction"].head(3)
    on_time, late, both = payments["event_id"]
    maturity, moment = timedelta(days=7), timedelta(microseconds=1)
    reports = [(on_time, maturity), (late, maturity + moment), (both, maturity + moment), (both, maturity)]
    happened = payments.set_index("event_id")["event_time"]
    frame = small_world.frames["chargeback"].head(len(reports)).copy()
    frame["event_id"] = [f"cb-{number}" for number in range(len(reports))]
    frame["transaction_id"] = [name for name, _ in reports]
    frame["event_time"] = [happened[name] + delay for name, delay in reports]
    frame["event_time"] = frame["event_time"].dt.as_unit("us")
    small_world.archive("chargeback", frame, batch_id=0, ingest_time=ARRIVED, lake=lake)
    found = matured_requests(lake, usecase, Known(from_us(small_world.until_us)), small_world.snapshot).to_pandas()
    assert set(found.loc[found["label"], "event_id"]) == {on_time, both}


def test_a_label_that_had_not_arrived_is_not_counted(small_world: SmallWorld, tmp_path: Path) -> None:
    lake = tmp_path
    (lake / "fraud").mkdir()
    (lake / "fraud" / "transaction").symlink_to(small_world.lake / "fraud" / "transaction")
    reports = small_world.frames["chargeback"].head(40)
    until, moment = from_us(small_world.until_us), timedelta(microseconds=1)
    small_world.archive("chargeback", reports.head(20), batch_id=0, ingest_time=ARRIVED, lake=lake)
    small_world.archive("chargeback", reports.tail(20), batch_id=1, ingest_time=ARRIVED + moment, lake=lake)
    # It came twice; that it had arrived before is what counts.
    small_world.archive("chargeback", reports.head(1), batch_id=2, ingest_time=ARRIVED + moment, lake=lake)
    found = matured_requests(lake, usecase, Known(until, ARRIVED), small_world.snapshot).to_pandas()
    assert set(found.loc[found["label"], "event_id"]) == set(reports.head(20)["transaction_id"])
    later = matured_requests(lake, usecase, Known(until, ARRIVED + moment), small_world.snapshot).to_pandas()
    assert later["label"].sum() == 40


def test_backfilled_labels_count_whatever_their_order_of_loading(small_world: SmallWorld, tmp_path: Path) -> None:
    until = from_us(small_world.until_us)
    for name, earlier_h in (("chargeback", 1), ("transaction", 2)):
        arrived = ARRIVED - timedelta(hours=earlier_h)
        frame = small_world.frames[name]
        small_world.archive(name, frame, batch_id=0, ingest_time=arrived, lake=tmp_path, backfilled=True)
    found = matured_requests(tmp_path, usecase, Known(until, ARRIVED), small_world.snapshot).to_pandas()
    usual = matured_requests(small_world.lake, usecase, Known(until, ARRIVED), small_world.snapshot).to_pandas()
    assert found["backfilled"].all()
    assert not usual["backfilled"].any()
    pd.testing.assert_series_equal(found["label"], usual["label"])


def test_a_request_that_arrived_after_the_history_was_asked_for_is_left_out(
    small_world: SmallWorld, tmp_path: Path
) -> None:
    payments = small_world.frames["transaction"].head(40)
    later = ARRIVED + timedelta(microseconds=1)
    small_world.archive("transaction", payments.head(20), batch_id=0, ingest_time=ARRIVED, lake=tmp_path)
    small_world.archive("transaction", payments.tail(20), batch_id=1, ingest_time=later, lake=tmp_path, backfilled=True)
    known = Known(from_us(small_world.until_us), ARRIVED)
    found = matured_requests(tmp_path, usecase, known, small_world.snapshot).to_pandas()
    assert set(found["event_id"]) == set(payments.head(20)["event_id"])


def test_without_any_chargeback_nothing_is_positive(tmp_path: Path, small_world: SmallWorld) -> None:
    lake = tmp_path
    (lake / "fraud").mkdir()
    (lake / "fraud" / "transaction").symlink_to(small_world.lake / "fraud" / "transaction")
    found = matured_requests(lake, usecase, Known(from_us(small_world.until_us)), small_world.snapshot).to_pandas()
    assert len(found) > 1000
    assert not found["label"].any()
