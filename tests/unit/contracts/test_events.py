"""Events accept exactly what they declare, and survive the envelope unchanged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flywheel.contracts.events import Envelope, from_us, to_us
from flywheel.contracts.topics import topics_of
from usecases.fraud.events import Transaction

GOOD: dict[str, Any] = {
    "event_id": "tx-1",
    "event_time": "2018-04-01T02:00:00+02:00",
    "card_id": "c1",
    "terminal_id": "t1",
    "amount_cents": 1_250,
}


def test_times_are_kept_in_utc() -> None:
    event = Transaction.model_validate(GOOD)
    assert event.event_time == datetime(2018, 4, 1, tzinfo=UTC)
    assert event.event_time.tzinfo == UTC


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event_id", ""),
        ("event_id", "a" * 65),
        ("event_id", "with space"),
        ("event_id", 7),
        ("event_time", "2018-04-01T02:00:00"),
        ("event_time", "yesterday"),
        ("amount_cents", 0),
        ("amount_cents", "12"),
        ("amount_cents", 1.5),
        ("amount_cents", float("nan")),
        ("amount_cents", 10**30),
        ("amount_cents", True),
        ("card_id", None),
        ("colour", "red"),
    ],
)
def test_a_bad_field_is_named(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Transaction.model_validate({**GOOD, field: value})
    assert [error["loc"] for error in caught.value.errors()] == [(field,)]


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1)))
def test_microseconds_round_trip(naive: datetime) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(hours=3)))
    assert from_us(to_us(moment)) == moment


def test_the_envelope_gives_back_what_was_sealed() -> None:
    event = Transaction.model_validate(GOOD)
    envelope = Envelope.seal(event, ingest_time=datetime(2026, 1, 1, tzinfo=UTC), request_id="r1")
    back = Envelope.from_bytes(envelope.to_bytes())
    assert back == envelope
    assert Transaction.model_validate(back.event) == event


@pytest.mark.parametrize("backfilled", [True, False])
def test_the_envelope_says_whether_it_was_backfilled(backfilled: bool) -> None:
    arrived = datetime(2026, 1, 1, tzinfo=UTC)
    seal = Envelope.sealer(ingest_time=arrived, request_id="r1", backfilled=backfilled)
    assert Envelope.from_bytes(seal(Transaction.model_validate(GOOD))).backfilled is backfilled


def test_a_record_that_does_not_say_so_was_live() -> None:
    old = b'{"event":{},"ingest_time":"2026-01-01T00:00:00.000000Z","request_id":"r1"}'
    assert not Envelope.from_bytes(old).backfilled


def test_topic_names_are_unique() -> None:
    names = [topic.name for topic in topics_of("fraud", ("transaction", "chargeback"))]
    assert len(names) == len(set(names)) == 9
