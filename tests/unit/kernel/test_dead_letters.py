"""Of a record that is no event it is said what is wrong, and nothing of what it holds."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from flywheel.contracts.events import Envelope
from flywheel.kernel.dead_letters import KEPT_BYTES, Fault, cut, examine
from usecases.fraud.events import Transaction

GOOD = Envelope.seal(
    Transaction(
        event_id="e1",
        event_time=datetime(2018, 4, 1, tzinfo=UTC),
        card_id="c-secret",
        terminal_id="t1",
        amount_cents=5,
    ),
    ingest_time=datetime(2026, 1, 1, tzinfo=UTC),
    request_id="r",
)


def altered(**fields: object) -> bytes:
    return orjson.dumps({**orjson.loads(GOOD.to_bytes()), **fields})


@pytest.mark.parametrize(
    ("value", "fault", "words"),
    [
        (b"", Fault.NOT_JSON, "no JSON"),
        (b'{"event": {"card_id": "c-secret"', Fault.NOT_JSON, "no JSON"),
        (b'["c-secret"]', Fault.NO_ENVELOPE, "(undeclared): model_type"),
        (altered(ingest_time=None), Fault.NO_ENVELOPE, "ingest_time: "),
        (altered(event={**GOOD.event, "amount_cents": "c-secret"}), Fault.NO_EVENT, "amount_cents: int_parsing"),
        (altered(event={**GOOD.event, "c-secret": 1}), Fault.NO_EVENT, "(undeclared): extra_forbidden"),
        (altered(event={"event_id": "c-secret"}), Fault.NO_EVENT, "card_id: missing"),
    ],
)
def test_what_is_wrong(value: bytes, fault: Fault, words: str) -> None:
    found, detail = examine(Transaction, value)
    assert found is fault
    assert words in detail
    assert "c-secret" not in detail


def test_a_cut_leaves_no_half_word() -> None:
    assert cut(b"c" * 10) == b"c" * 10
    long = b"x" * (KEPT_BYTES - 3) + b" c12345"
    assert cut(long) == b"x" * (KEPT_BYTES - 3) + b" "
    assert cut(b"," * 5_000) == b"," * KEPT_BYTES
