"""Declared views, what is asked for, and the columns that come of an answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.adapters.feast_layout import encode_time
from flywheel.kernel.stored import (
    JoinKey,
    KeyType,
    StoredColumns,
    StoredFeature,
    StoredRequest,
    StoredStatus,
    StoredView,
)
from flywheel.kernel.stored_plan import StoredPlan, StoredRow
from flywheel.kernel.stored_table import StoredTable
from flywheel.kernel.stored_values import ScalarType, encode_scalar

NOW_US = 1_700_000_000_000_000
FRESH, STALE, MISSING, REFUSED = StoredStatus
CARD = JoinKey("card")
CARDS = StoredView("cards", (CARD,), (StoredFeature("mean"), StoredFeature("count", ScalarType.INT64, 0)), 60_000_000)
RISKS = StoredView("risks", (CARD,), (StoredFeature("risk", ScalarType.FLOAT, -1),))
SHOPS = StoredView("shops", (JoinKey("shop", KeyType.INT64),), (StoredFeature("open", ScalarType.BOOL),))


def double(value: float | None) -> bytes:
    return encode_scalar(ScalarType.DOUBLE, value)


def integer(value: float | None) -> bytes:
    return encode_scalar(ScalarType.INT64, value)


def aged(age_us: int) -> bytes:
    return encode_time(NOW_US - age_us)


def decode(views: Sequence[StoredView], *rows: StoredRow) -> StoredColumns:
    """The answer, once it is known that each row alone would be answered just so, and that it says when all is well."""
    plan = StoredPlan(views)
    found = plan.columns(len(rows), [rows], NOW_US)
    for at, row in enumerate(rows):
        alone = plan.columns(1, [[row]], NOW_US)
        np.testing.assert_array_equal(found.values[at : at + 1], alone.values)
        np.testing.assert_array_equal(found.status[at : at + 1], alone.status)
        np.testing.assert_array_equal(found.age_ms[at : at + 1], alone.age_ms)
        assert alone.is_current is _is_current(alone)
    assert found.is_current is _is_current(found)
    return found


def _is_current(found: StoredColumns) -> bool:
    return bool((found.status == FRESH).all() and (found.age_ms >= 0).all())


def test_values_come_in_the_order_of_the_rows_with_status_and_age() -> None:
    found = decode([CARDS], [double(1.5), integer(-3), aged(2_000)], [double(2.5), integer(4), aged(60_000_000)])
    assert found.values.tolist() == [[1.5, -3], [2.5, 4]]
    assert found.status.tolist() == [[FRESH], [FRESH]]
    assert found.age_ms.tolist() == [[2], [60_000]]


def test_a_value_past_its_time_to_live_is_none_any_more() -> None:
    found = decode([CARDS], [double(1.5), integer(-3), aged(60_000_001)], [double(2.5), integer(4), aged(0)])
    np.testing.assert_array_equal(found.values, [[np.nan, 0], [2.5, 4]])
    assert found.status.tolist() == [[STALE], [FRESH]]
    assert found.age_ms[0, 0] == pytest.approx(60_000.001)


def test_a_value_without_a_time_to_live_ages_and_stays() -> None:
    found = decode([RISKS], [encode_scalar(ScalarType.FLOAT, 0.5), encode_time(0)])
    assert found.values.tolist() == [[0.5]]
    assert found.status.tolist() == [[FRESH]]
    assert found.age_ms.tolist() == [[NOW_US / 1000]]


def test_a_value_yet_to_come_has_a_negative_age() -> None:
    assert decode([CARDS], [double(1), integer(1), aged(-5_000)]).age_ms.tolist() == [[-5]]


def test_views_of_one_entity_have_each_their_own_status() -> None:
    found = decode([CARDS, RISKS], [double(1.5), integer(-3), None, aged(61_000_000), None])
    np.testing.assert_array_equal(found.values, [[np.nan, 0, -1]])
    assert found.status.tolist() == [[STALE, MISSING]]
    np.testing.assert_array_equal(found.age_ms, [[61_000, np.nan]])


@pytest.mark.parametrize(
    "row",
    [
        [double(1.5), double(2), aged(0)],
        [b"\x29garbage", integer(1), aged(0)],
        [double(1.5), integer(1), b"?"],
        [double(1.5), integer(1), None],
        [None, None, b"?"],
        [b"{}", None, None],
    ],
    ids=["another type", "truncated", "no time", "time missing", "time alone and foreign", "foreign alone"],
)
def test_a_row_that_is_foreign_is_refused_whole_and_its_neighbours_are_not(row: StoredRow) -> None:
    good = [double(2.5), integer(4), aged(0)]
    found = decode([CARDS], good, row, good)
    np.testing.assert_array_equal(found.values, [[2.5, 4], [np.nan, 0], [2.5, 4]])
    assert found.status.tolist() == [[FRESH], [REFUSED], [FRESH]]
    np.testing.assert_array_equal(found.age_ms, [[0], [np.nan], [0]])
    assert StoredPlan([CARDS]).refused(found) == {"cards": 1}


FLOATS = StoredView(
    "floats", (CARD,), (StoredFeature("a", default=7), StoredFeature("b", ScalarType.FLOAT)), 60_000_000
)
MORE = StoredView("more", (CARD,), (StoredFeature("c"),))
UNKNOWN_OF_NINE_BYTES = b"\x31" + bytes(8)
odd = st.sampled_from([UNKNOWN_OF_NINE_BYTES, integer(1), double(1)[:-1], b"", b"?", None])
doubles = st.sampled_from([double(1.5), double(math.nan)]) | odd
floats = st.just(encode_scalar(ScalarType.FLOAT, 2.5)) | odd
times = st.sampled_from([aged(0), aged(60_000_000), aged(60_000_001), aged(-1), b"?", None])


@given(st.lists(st.tuples(doubles, floats, doubles, times, times), min_size=1, max_size=4))
def test_rows_of_any_make_are_answered_alone_as_among_others(rows: list[StoredRow]) -> None:
    decode([FLOATS, MORE], *rows)


@given(st.lists(st.tuples(doubles, floats, doubles, times, times), min_size=1, max_size=4))
def test_rows_that_look_alike_say_the_same_as_a_table(rows: list[StoredRow]) -> None:
    first = rows[0]
    alike = [row for row in rows if None not in row and [*map(length, row)] == [*map(length, first)]]
    if alike:
        for now_us in (NOW_US, np.full(len(alike), NOW_US)):
            apart, whole = (
                StoredPlan([FLOATS, MORE]).columns(len(alike), [each], now_us) for each in (alike, table(alike))
            )
            for one, other in zip(apart, whole, strict=True):
                np.testing.assert_array_equal(one, other)


def table(rows: Sequence[StoredRow]) -> StoredTable:
    return StoredTable(
        [np.array([[*(message or b"")] for message in each], np.uint8) for each in zip(*rows, strict=True)]
    )


def length(message: bytes | None) -> int:
    return len(message or b"")


def test_a_table_of_integers_is_read_row_by_row() -> None:
    rows = [[double(1.5), integer(number), aged(0)] for number in (3, 4)]
    found = StoredPlan([CARDS]).columns(2, [table(rows)], NOW_US)
    assert found.values.tolist() == [[1.5, 3], [1.5, 4]]
    assert found.status.tolist() == [[FRESH], [FRESH]]


def test_a_whole_row_of_floating_numbers_is_read() -> None:
    found = decode(
        [FLOATS, MORE], [double(math.nan), encode_scalar(ScalarType.FLOAT, 2.5), double(3), aged(0), aged(1)]
    )
    assert found.values.tolist() == [[7, 2.5, 3]]
    assert found.status.tolist() == [[FRESH, FRESH]]
    assert found.age_ms.tolist() == [[0, 0.001]]


@pytest.mark.parametrize(
    ("row", "status"),
    [
        ([double(1), encode_scalar(ScalarType.FLOAT, 2), double(3), aged(60_000_001), aged(0)], [STALE, FRESH]),
        ([UNKNOWN_OF_NINE_BYTES, encode_scalar(ScalarType.FLOAT, 2), double(3), aged(0), aged(0)], [REFUSED, FRESH]),
        ([double(1), encode_scalar(ScalarType.FLOAT, 2), double(3), aged(0), b"?"], [FRESH, REFUSED]),
    ],
)
def test_a_whole_row_of_floating_numbers_can_be_stale_or_refused(row: StoredRow, status: list[int]) -> None:
    assert decode([FLOATS, MORE], row).status.tolist() == [status]


def test_only_the_view_that_is_foreign_is_refused() -> None:
    found = decode([RISKS, CARDS], [b"?", double(1.5), integer(2), aged(0), aged(0)])
    np.testing.assert_array_equal(found.values, [[-1, 1.5, 2]])
    assert found.status.tolist() == [[REFUSED, FRESH]]
    assert StoredPlan([RISKS, CARDS]).refused(found) == {"risks": 1}


def test_a_plans_own_foreign_row_is_refused() -> None:
    plan = StoredPlan([CARDS, RISKS])
    assert plan.columns(1, [[plan.groups[0].foreign]], NOW_US).status.tolist() == [[REFUSED, REFUSED]]


def test_null_and_absent_values_of_a_written_row_are_the_default() -> None:
    found = decode([CARDS], [double(None), None, aged(0)])
    np.testing.assert_array_equal(found.values, [[np.nan, 0]])
    assert found.status.tolist() == [[FRESH]]


@pytest.mark.parametrize("rows", [1, 3, 50])
def test_columns_stand_in_the_order_of_declaration_whatever_the_groups(rows: int) -> None:
    plan = StoredPlan([CARDS, SHOPS, RISKS])
    assert plan.features == ("cards:mean", "cards:count", "shops:open", "risks:risk")
    cards = [[double(n), integer(n), encode_scalar(ScalarType.FLOAT, n), aged(n), aged(2 * n)] for n in range(rows)]
    shop = [encode_scalar(ScalarType.BOOL, True), aged(7_000)]
    found = plan.columns(rows, [cards, [shop]], NOW_US)
    assert found.values.tolist() == [[n, n, 1, n] for n in range(rows)]
    assert found.age_ms.tolist() == [[n / 1000, 7, 2 * n / 1000] for n in range(rows)]


def test_a_single_key_is_read_once_for_all_rows() -> None:
    plan = StoredPlan([CARDS, SHOPS])
    assert plan.keys(StoredRequest({"shop": [4, 4, 5], "card": ["a"]}, 0)) == (3, [[["a"]], [[4, 4, 5]]])


def test_a_key_of_two_parts_takes_a_single_part_for_all_rows_in_the_order_of_names() -> None:
    pair = StoredView("pairs", (JoinKey("shop"), JoinKey("card")), (StoredFeature("count"),))
    plan = StoredPlan([pair, CARDS])
    rows, keys = plan.keys(StoredRequest({"shop": ["x", "y"], "card": ["a"]}, 0))
    assert rows == 2
    assert keys == [[["a", "a"], ["x", "y"]], [["a"]]]


def test_nothing_asked_for_is_nothing_answered() -> None:
    plan = StoredPlan([CARDS, SHOPS])
    rows, keys = plan.keys(StoredRequest({"shop": [], "card": ["a"]}, 0))
    assert (rows, keys) == (0, [[["a"]], [[]]])
    found = plan.columns(rows, [[[None] * 3], []], NOW_US)
    assert (found.values.shape, found.status.shape, found.age_ms.shape) == ((0, 3), (0, 2), (0, 2))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"card": ["a"]}, "join keys are card, shop; got card"),
        ({"card": ["a"], "shop": [1], "user": ["u"]}, "got card, shop, user"),
        ({"card": ["a", "b"], "shop": [1, 2, 3]}, "have 2, 3 values"),
        ({"card": [1], "shop": [1]}, "every card must be of type str"),
        ({"card": "ab", "shop": [1]}, "every card must be of type str, in a list"),
        ({"card": ["a"], "shop": [True]}, "every shop must be of type int"),
        ({"card": ["a"], "shop": [1.0]}, "every shop must be of type int"),
    ],
)
def test_keys_that_do_not_fit_are_refused(keys: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        StoredPlan([CARDS, SHOPS]).keys(StoredRequest(keys, 0))


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: StoredView("v", (), (StoredFeature("f"),)), "view v has no join key"),
        (lambda: StoredView("v", (CARD,), ()), "view v has no feature"),
        (lambda: StoredView("v", (CARD, CARD), (StoredFeature("f"),)), "has join key card twice"),
        (lambda: StoredView("v", (CARD,), (StoredFeature("f"), StoredFeature("f"))), "has feature f twice"),
        (lambda: StoredView("v", (CARD,), (StoredFeature("f"),), 0), "a time to live of 0 us"),
        (lambda: StoredView("v", (CARD,), (StoredFeature("f", "string"),)), "v:f is no number: 'string'"),  # type: ignore[arg-type]
        (lambda: StoredPlan([]), "at least one view"),
        (lambda: StoredPlan([CARDS, RISKS, CARDS]), "declared twice: cards"),
        (
            lambda: StoredPlan([CARDS, StoredView("v", (JoinKey("card", KeyType.INT64),), (StoredFeature("f"),))]),
            "join key card is both string and int64",
        ),
    ],
)
def test_a_wrong_declaration_says_what_is_wrong(declare: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        declare()


def test_the_default_of_a_default_is_no_number() -> None:
    assert math.isnan(StoredFeature("f").default)
