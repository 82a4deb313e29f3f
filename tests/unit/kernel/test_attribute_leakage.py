"""What was known of an attribute at a request: what was online by its arrival, or in a backfilled past by its time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flywheel.kernel.attribute_leakage import attribute_mismatches, known_attributes
from flywheel.kernel.attributes import ONLINE_WITHIN_US, AttributeLoad, AttributeRow, attributes, tables_of
from flywheel.kernel.durations import DAY_US
from flywheel.kernel.features import Entity
from flywheel.kernel.leakage import Request

(TABLE,) = tables_of(attributes("profile", "limit", "age").by(Entity("card", "card_id")).valid_for("30d", default=-1.0))
FOREVER = replace(TABLE, valid_us=None)
AT_US = 100 * DAY_US
REQUEST = Request("payment", "p1", AT_US, arrived_us=AT_US + 10 + ONLINE_WITHIN_US)
UNTIL_US = AT_US + 1_000


def load(as_of_us: int, loaded_us: int, *values: float | None) -> AttributeLoad:
    return AttributeLoad(AttributeRow(("c1",), as_of_us, values), loaded_us)


def known(*loads: AttributeLoad, request: Request = REQUEST) -> list[float]:
    return list(known_attributes(TABLE, loads, request, UNTIL_US).values())


def test_the_newest_moment_counts_in_whatever_order_it_was_loaded() -> None:
    newest, before = load(AT_US - 5, AT_US - 4, 1.0, 2.0), load(AT_US - 9, AT_US - 1, 3.0, 4.0)
    assert known(newest, before) == known(before, newest) == [1.0, 2.0]


def test_of_two_loads_as_of_one_moment_the_later_counts() -> None:
    assert known(load(AT_US - 5, AT_US - 1, 3.0, 4.0), load(AT_US - 5, AT_US - 4, 1.0, 2.0)) == [3.0, 4.0]


@pytest.mark.parametrize(
    ("as_of_us", "loaded_us", "is_known"),
    [(AT_US, AT_US + 10, True), (AT_US + 1, AT_US + 1, False), (AT_US, AT_US + 11, False)],
)
def test_a_load_counts_from_its_moment_and_its_loading_on(as_of_us: int, loaded_us: int, is_known: bool) -> None:
    assert known(load(as_of_us, loaded_us, 1.0, 2.0)) == ([1.0, 2.0] if is_known else [-1.0, -1.0])


def test_a_load_as_of_later_hides_the_one_before_but_not_from_a_backfilled_request() -> None:
    loads = load(AT_US - 5, 0, 1.0, 2.0), load(AT_US + 1, 0, 3.0, 4.0)
    assert known(*loads) == [-1.0, -1.0]
    assert known(*loads, request=replace(REQUEST, backfilled=True)) == [1.0, 2.0]


@pytest.mark.parametrize(("loaded_us", "is_known"), [(UNTIL_US, True), (UNTIL_US + 1, False)])
def test_a_backfilled_request_knows_what_was_loaded_by_the_history(loaded_us: int, is_known: bool) -> None:
    backfilled = replace(REQUEST, backfilled=True)
    assert known(load(AT_US, loaded_us, 1.0, 2.0), request=backfilled) == ([1.0, 2.0] if is_known else [-1.0, -1.0])


@pytest.mark.parametrize(("age_us", "is_known"), [(30 * DAY_US, True), (30 * DAY_US + 1, False)])
def test_a_load_counts_as_long_as_it_is_valid(age_us: int, is_known: bool) -> None:
    old = load(AT_US - age_us, 0, 1.0, 2.0)
    assert known(old) == ([1.0, 2.0] if is_known else [-1.0, -1.0])
    assert list(known_attributes(FOREVER, [old], REQUEST, UNTIL_US).values()) == [1.0, 2.0]


def test_nothing_is_the_default_and_does_not_fall_back_to_an_older_load() -> None:
    assert known() == [-1.0, -1.0]
    assert known(load(AT_US - 9, 0, 5.0, 6.0), load(AT_US - 5, 0, None, float("nan"))) == [-1.0, -1.0]


def test_each_wrong_value_is_named_with_what_was_known() -> None:
    trained = {"card_limit": 1.0, "card_age": 2.5}
    (wrong,) = attribute_mismatches(TABLE, [load(AT_US, AT_US, 1.0, 2.0)], REQUEST, trained, UNTIL_US)
    assert str(wrong) == "card_age of p1 is 2.5, but 2 was known"
