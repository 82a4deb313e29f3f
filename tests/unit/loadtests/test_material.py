"""What requests are made of."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from flywheel.kernel import catalog
from loadtests.failures import CannotTest
from loadtests.material import of_file, of_usecase

_USECASE = catalog.load("fraud")


def test_the_worlds_payments_around_the_present(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_WORLD_CUSTOMERS", "50")
    found = of_usecase(_USECASE, datetime(2018, 5, 1, 13, tzinfo=UTC))
    assert len(found.events) > 500
    assert found.events[0]["event_time"].startswith("2018-05-01")
    assert {"card_id", "terminal_id", "amount_cents"} <= set(found.events[0])
    assert all("transaction_id" not in event for event in found.events)
    assert found.moments_s[0] == 0.0
    assert (np.diff(found.moments_s) >= 0).all()


def test_a_recording_is_in_the_order_of_its_times_and_keeps_their_gaps(tmp_path: Path) -> None:
    path = tmp_path / "payments.csv"
    path.write_text(
        "event_id,event_time,card_id,terminal_id,amount_cents\n"
        "b,2026-01-01T00:00:03Z,bob,t1,200\n"
        "a,2026-01-01T00:00:00Z,alice,t1,100\n"
    )
    found = of_file(_USECASE, path)
    assert [event["card_id"] for event in found.events] == ["alice", "bob"]
    assert found.moments_s.tolist() == [0.0, 3.0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("event_id,event_time,card_id,terminal_id,amount_cents\n", "holds no transaction"),
        ("event_id,colour\na,red\n", "colour"),
        ("event_id,event_time,card_id,terminal_id,amount_cents\na,soon,c,t,1\n", "event_time such as"),
    ],
)
def test_a_recording_that_does_not_fit_says_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "payments.csv"
    path.write_text(text)
    with pytest.raises(CannotTest, match=told):
        of_file(_USECASE, path)


def test_a_recording_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CannotTest, match="there is no file"):
        of_file(_USECASE, tmp_path / "none.csv")
