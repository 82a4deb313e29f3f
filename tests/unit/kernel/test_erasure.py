"""Whoever was erased is recognized by a keyed pseudonym, up to the moment of the erasure and not beyond."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.contracts.erasure import Erased
from flywheel.contracts.events import from_us, to_us
from flywheel.kernel.erasure import EraseKey, Erasures, OtherKey, entity_named, named_in, unit_entity, words
from usecases.fraud import usecase
from usecases.fraud.events import Chargeback, Transaction

KEY = EraseKey(b"secret", "fraud")
AT = datetime(2026, 5, 1, tzinfo=UTC)
AT_US = to_us(AT)


def erased(entity: str, entity_id: str, at_us: int = AT_US, key: EraseKey = KEY) -> Erased:
    return Erased(
        usecase="fraud",
        entity=entity,
        pseudonym=key.pseudonym(entity, entity_id),
        key_check=key.check,
        erased_at=from_us(at_us),
        erased_by="somebody",
    )


def test_the_pseudonym_is_the_standard_hmac() -> None:
    message = b"fraud\x1fcard\x1fc1"
    assert KEY.pseudonym("card", "c1") == hmac.new(b"secret", message, hashlib.sha256).hexdigest()[:32]


def test_pseudonyms_differ_by_key_use_case_entity_and_id() -> None:
    keys = [KEY, EraseKey(b"other", "fraud"), EraseKey(b"secret", "ads")]
    found = [key.pseudonym(entity, name) for key in keys for entity in ("card", "terminal") for name in ("1", "2")]
    assert len(set(found)) == len(found)
    assert len({key.check for key in keys}) == 3


def test_what_arrived_until_then_is_erased_and_what_comes_later_is_not() -> None:
    erasures = Erasures(KEY).including([erased("card", "c1")])
    assert erasures.covers("card", "c1", AT_US)
    assert not erasures.covers("card", "c1", AT_US + 1)
    assert not erasures.covers("card", "c2", AT_US)
    assert not erasures.covers("terminal", "c1", AT_US)


@given(st.permutations([3, 1, 2, 2]))
def test_of_several_erasures_the_newest_holds_in_whatever_order_they_are_read(moments: list[int]) -> None:
    erasures = Erasures(KEY).including(erased("card", "c1", moment) for moment in moments)
    assert erasures.covers("card", "c1", 3)
    assert not erasures.covers("card", "c1", 4)
    assert erasures == Erasures(KEY).including([erased("card", "c1", 3)])
    assert erasures.of("card") == {KEY.pseudonym("card", "c1"): 3}


def test_erasures_written_under_another_key_are_refused() -> None:
    with pytest.raises(OtherKey, match="FLYWHEEL_ERASURE_KEY"):
        Erasures(KEY).including([erased("card", "c1", key=EraseKey(b"other", "fraud"))])


def test_an_event_is_erased_through_any_entity_that_it_names() -> None:
    named = named_in(usecase, Transaction)
    assert named == (("card", ("card_id",)), ("terminal", ("terminal_id",)))
    fields = {"card_id": "c1", "terminal_id": "t1"}
    for entity, entity_id in (("card", "c1"), ("terminal", "t1")):
        assert Erasures(KEY).including([erased(entity, entity_id)]).covers_event(named, fields, AT_US)
    assert not Erasures(KEY).including([erased("card", "t1")]).covers_event(named, fields, AT_US)
    assert not Erasures(KEY).covers_event(named, fields, AT_US)
    some = Erasures(KEY).including([erased("card", "None")])
    assert not some.covers_event(named, {"card_id": None}, AT_US)
    assert named_in(usecase, Chargeback) == named


def test_an_id_of_several_fields_is_one() -> None:
    erasures = Erasures(KEY).including([erased("pair", "c1\x1ft1")])
    named = [("pair", ("card_id", "terminal_id"))]
    assert erasures.covers_event(named, {"card_id": "c1", "terminal_id": "t1"}, AT_US)
    assert not erasures.covers_event(named, {"card_id": "c1", "terminal_id": "t2"}, AT_US)


@pytest.mark.parametrize("raw", [b'{"card_id":"c1", "x', b"card_id:c1", b"c1", b"a,c1;b"])
def test_bytes_that_are_no_event_are_searched_for_words(raw: bytes) -> None:
    erasures = Erasures(KEY).including([erased("card", "c1")])
    assert erasures.mentioned_in(raw, AT_US)
    assert not erasures.mentioned_in(raw, AT_US + 1)
    assert not erasures.mentioned_in(raw.replace(b"c1", b"c12"), AT_US)
    assert not Erasures(KEY).mentioned_in(raw, AT_US)


def test_words_of_anything() -> None:
    assert list(words(b"\xff\x00")) == []


def test_decisions_are_logged_by_the_card() -> None:
    assert unit_entity(usecase) == "card"
    assert entity_named(usecase, "card").key == "card_id"
    with pytest.raises(KeyError):
        entity_named(usecase, "person")
