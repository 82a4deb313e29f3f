"""Event times have one format on the wire, and what is not clearly a time is refused."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flywheel.contracts.events import Envelope, iso_utc
from usecases.fraud.events import Transaction

_FIELDS: dict[str, Any] = {"event_id": "tx-1", "card_id": "c1", "terminal_id": "t1", "amount_cents": 1_250}
_WIRE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_moments = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2100, 1, 1)).map(
    lambda naive: naive.replace(tzinfo=timezone(timedelta(hours=3)))
)


@given(_moments, _moments, st.text(max_size=20), st.booleans())
def test_the_fast_seal_writes_the_same_bytes(
    event_time: datetime, ingest_time: datetime, request_id: str, backfilled: bool
) -> None:
    event = Transaction(event_time=event_time, **_FIELDS)
    how: dict[str, Any] = {"ingest_time": ingest_time, "request_id": request_id, "backfilled": backfilled}
    assert Envelope.sealer(**how)(event) == Envelope.seal(event, **how).to_bytes()


@given(_moments)
def test_every_time_is_written_in_one_format_and_read_back(moment: datetime) -> None:
    event = Transaction(event_time=moment, **_FIELDS)
    written = orjson.loads(event.model_dump_json())["event_time"]
    assert _WIRE.fullmatch(written)
    assert datetime.fromisoformat(written) == moment
    assert written == iso_utc(moment.astimezone(UTC))


@pytest.mark.parametrize(
    "value",
    [
        1522540800,
        1522540800.5,
        "1522540800",
        "1522540800000",
        "0001-01-01T00:00:00+14:00",
        True,
        "",
        "2018-04-01",
        None,
    ],
)
def test_what_is_not_clearly_a_time_is_refused(value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Transaction.model_validate({**_FIELDS, "event_time": value})
    assert [error["loc"] for error in caught.value.errors()] == [("event_time",)]
