"""The ledger: whatever order records come in and however often, each decision counts once with its right label."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.kernel.maturity import Decided, Ledger

MATURITY_US = 100


def decided(event_id: str, at: int = 0, *, unit: str = "c1", score: float = 0.5) -> Decided:
    return Decided(event_id, at, at, unit, False, "v1", score, 10.0, True, False, False)


def ledger(capacity: int = 1_000) -> Ledger:
    return Ledger(MATURITY_US, capacity)


def test_a_decision_without_label_is_a_negative_once_matured() -> None:
    book = ledger()
    book.decide(decided("t1", at=10))
    book.advance(109)
    assert not book.outcomes().matured.any()
    book.advance(110)
    assert book.outcomes().matured.all()
    assert not book.outcomes().positive.any()


def test_a_label_is_known_at_once_and_counts_when_matured() -> None:
    book = ledger()
    book.decide(decided("t1", at=0))
    book.label("t1", 20)
    assert book.outcomes().positive.tolist() == [True]
    assert book.outcomes().matured.tolist() == [False]


def test_a_label_before_its_decision_is_remembered() -> None:
    book = ledger()
    book.label("t1", 20)
    book.decide(decided("t1", at=0))
    assert book.outcomes().positive.tolist() == [True]


def test_a_label_after_maturity_is_not_counted_but_an_earlier_report_is() -> None:
    book = ledger()
    book.decide(decided("t1", at=0))
    book.label("t1", 101)
    assert book.outcomes().positive.tolist() == [False]
    book.label("t1", 100)
    assert book.outcomes().positive.tolist() == [True]


def test_the_first_decision_about_an_event_counts() -> None:
    book = ledger()
    assert book.decide(decided("t1", score=0.1))
    assert not book.decide(decided("t1", score=0.9))
    assert book.outcomes().score.tolist() == [0.1]


def test_the_oldest_decision_makes_room_and_is_forgotten() -> None:
    book = ledger(capacity=3)
    for number in range(5):
        book.decide(decided(f"t{number}", at=number))
    book.label("t0", 50)
    outcomes = book.outcomes()
    assert outcomes.event_time_us.tolist() == [2, 3, 4]
    assert not outcomes.positive.any()


def test_decisions_forgotten_before_they_matured_are_counted() -> None:
    book = ledger(capacity=2)
    for number, at in enumerate((0, 10, 100)):
        book.decide(decided(f"t{number}", at=at))
    assert book.forgotten_early == 0
    book.decide(decided("t3", at=109))
    assert book.forgotten_early == 1
    book.advance(200)
    book.decide(decided("t4", at=101))
    assert book.forgotten_early == 1


def test_labels_without_decision_are_bounded() -> None:
    book = ledger(capacity=2)
    for number in range(3):
        book.label(f"t{number}", 1)
    for number in (1, 2):
        book.decide(decided(f"t{number}"))
    assert book.outcomes().positive.all()
    book.decide(decided("t0"))
    assert book.outcomes().positive.tolist() == [True, False]


def test_event_time_never_goes_back() -> None:
    book = ledger()
    assert book.watermark_us is None
    book.advance(50)
    book.advance(7)
    assert book.watermark_us == 50


def test_a_decision_from_the_far_future_settles_nothing() -> None:
    book = ledger()
    book.advance(1)
    book.decide(decided("t1", at=0))
    book.decide(decided("t2", at=10**15))
    assert book.watermark_us == 1
    assert not book.outcomes().matured.any()


def test_units_and_versions_are_told_apart() -> None:
    book = ledger()
    book.decide(decided("t1", unit="a"))
    book.decide(decided("t2", unit="a"))
    book.decide(decided("t3", unit="b"))
    outcomes = book.outcomes()
    assert np.unique(outcomes.unit).size == 2
    assert outcomes.versions == ("v1",)
    assert len(outcomes.where(outcomes.unit == outcomes.unit[0])) == 2


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity"):
        Ledger(1, 0)


@given(
    decisions=st.dictionaries(st.integers(0, 30), st.integers(0, 300), max_size=20),
    labels=st.dictionaries(st.integers(0, 30), st.integers(0, 400), max_size=20),
    events=st.lists(st.integers(0, 400), max_size=5),
    seed=st.integers(),
    repeats=st.integers(1, 3),
)
def test_order_and_repetition_change_nothing(
    decisions: dict[int, int], labels: dict[int, int], events: list[int], seed: int, repeats: int
) -> None:
    records = [("decision", *item) for item in decisions.items()] + [("label", *item) for item in labels.items()]
    records += [("event", 0, at) for at in events]
    shuffled = records * repeats
    random.Random(seed).shuffle(shuffled)
    book = ledger()
    for kind, number, at in shuffled:
        if kind == "decision":
            book.decide(decided(f"t{number}", at=at))
        elif kind == "label":
            book.label(f"t{number}", at)
        else:
            book.advance(at)
    found = book.outcomes()
    watermark = max([*labels.values(), *events], default=0)
    expected = sorted(
        (at, labels.get(number, 10**9) <= at + MATURITY_US, at + MATURITY_US <= watermark)
        for number, at in decisions.items()
    )
    rows = zip(found.event_time_us.tolist(), found.positive.tolist(), found.matured.tolist(), strict=True)
    assert sorted(rows) == expected


def test_a_forgotten_unit_is_gone_up_to_that_moment() -> None:
    book = ledger()
    for number in range(6):
        book.decide(decided(f"t{number}", at=number, unit=f"c{number % 2}"))
    assert book.forget("c1", 3) == 2
    assert book.forget("c1", 3) == 0
    assert book.outcomes().decided_at_us.tolist() == [0, 2, 4, 5]
    book.label("t1", 4)
    assert not book.outcomes().positive.any()
    assert book.decide(decided("t1", at=1))


def test_places_of_the_forgotten_are_used_again_in_turn() -> None:
    book = ledger(capacity=3)
    for number in range(3):
        book.decide(decided(f"t{number}", at=number, unit=f"c{number}"))
    book.forget("c0", 10)
    book.forget("c1", 10)
    for number in range(3, 6):
        book.decide(decided(f"t{number}", at=number))
    assert book.outcomes().event_time_us.tolist() == [3, 4, 5]
    assert book.forgotten_early == 1
