"""Reading a view: what is counted once, and what is found however far away it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flywheel.kernel import aggregation as agg
from flywheel.kernel import state as state_module
from flywheel.kernel.durations import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from flywheel.kernel.fold import Reading
from flywheel.kernel.plan import TileView, view_of
from flywheel.kernel.rows import MARK, TIE, Cells, event_hash, no_rows, rows_of
from flywheel.kernel.state import RECENT_LIMIT, Change, EntityState, apply
from tests.wide_declaration import BUYER, FEATURES, Order

WIDE = view_of("shop_buyer_tiles", BUYER, FEATURES)
ENDS = view_of(
    "ends_tiles",
    BUYER,
    (
        *agg.first(Order, "weight", default=-1.0).by(BUYER).over("10m", "24h", "30d"),
        *agg.last(Order, "weight", default=-1.0).by(BUYER).over("10m", "24h", "30d"),
    ),
)
AT_US = 17_622 * DAY_US + 13 * HOUR_US


def orders(view: TileView, ages_us: list[int], weights: list[float | None], first: int = 0) -> Cells:
    number = len(ages_us)
    columns: dict[str, NDArray[Any]] = {
        "buyer": np.array(["b"] * number, object),
        "seller": np.array(["z"] * number, object),
        "shop": np.array([f"s{n % 7}" for n in range(number)], object),
        "cents": np.arange(number),
        "weight": np.array(weights, object),
    }
    ties = np.array([event_hash("order", str(first + n)) for n in range(number)], np.int64)
    times_us = np.array([AT_US - age_us for age_us in ages_us], np.int64)
    ids, rows = rows_of(view, Order, columns, times_us, ties, np.arange(first, first + number))
    return rows[[entity_id == "b" for entity_id in ids]]


def state_of(view: TileView, rows: Cells) -> EntityState:
    (state,), _ = apply(view, [EntityState.empty(view)], [Change(rows, {0: len(rows)})])
    return state


def test_the_edge_may_come_in_any_order() -> None:
    rng = np.random.default_rng(1)
    ages_us = rng.integers(0, HOUR_US, 60).tolist()
    rows = orders(WIDE, ages_us, rng.random(60).tolist())
    reading, state = Reading(WIDE), state_of(WIDE, rows[:20])
    once = reading.values(state, rows[20:], AT_US)
    for _ in range(5):
        np.testing.assert_array_equal(reading.values(state, rng.permutation(rows[20:]), AT_US), once)


@pytest.mark.parametrize("held_by", ["nothing", "edge", "newest events", "ids"])
def test_the_request_counts_once_wherever_it_has_arrived(held_by: str) -> None:
    own = orders(WIDE, [0], [0.5])
    # By its id alone a state knows an event that is among the last arrivals but not among the newest.
    later_us, number = (30 * MINUTE_US, RECENT_LIMIT - 1) if held_by == "ids" else (0, RECENT_LIMIT)
    others = orders(WIDE, [MINUTE_US + n - later_us for n in range(number)], [1.0] * number, first=1)
    state = state_of(WIDE, others if held_by in ("nothing", "edge") else np.concatenate([own, others]))
    edge = own.copy() if held_by == "edge" else no_rows(WIDE)
    edge[:, MARK] = 10**6
    found = Reading(WIDE).values(state, edge, AT_US + later_us, own=own, own_tie=int(own[0, TIE]))
    counts = dict(zip((feature.name for feature in WIDE.features), found.tolist(), strict=True))
    assert counts["buyer_order_count_1h"] == number + 1


def test_a_moment_before_the_end_of_a_busy_state_is_read_from_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "RAW_LIMIT", 4)
    number = 200
    ages_us = [n * SECOND_US + SECOND_US // 2 for n in range(number)]
    state = state_of(WIDE, orders(WIDE, ages_us, [1.0] * number))
    for behind_s in (10, 45, 130):
        found = Reading(WIDE).values(state, no_rows(WIDE), AT_US - behind_s * SECOND_US)
        counts = dict(zip((feature.name for feature in WIDE.features), found.tolist(), strict=True))
        assert counts["buyer_order_count_10s"] == 10
        assert counts["buyer_order_count_10m"] == counts["buyer_order_count_90d"] == number - behind_s


@pytest.mark.parametrize("apart_us", [1, MINUTE_US, HOUR_US])
@pytest.mark.parametrize("absorbed", [False, True])
def test_the_ends_of_a_window_are_found_beyond_events_without_the_value(absorbed: bool, apart_us: int) -> None:
    number = 100
    weights: list[float | None] = [None] * number
    weights[40], weights[50], weights[60] = 4.0, 5.0, 6.0
    rows = orders(ENDS, [(number - n) * apart_us for n in range(number)], weights)
    state, edge = (state_of(ENDS, rows), rows[:0]) if absorbed else (EntityState.empty(ENDS), rows)
    found = Reading(ENDS).values(state, edge, AT_US).reshape(2, 3)
    within = {1: [True, True, True], MINUTE_US: [False, True, True], HOUR_US: [False, False, True]}[apart_us]
    np.testing.assert_array_equal(found[0], np.where(within, 4.0, -1.0))
    np.testing.assert_array_equal(found[1], np.where(within, 6.0, -1.0))


def test_of_an_entity_never_seen_only_the_request_is_known() -> None:
    own = orders(WIDE, [0], [0.5])
    found = Reading(WIDE).values(EntityState.empty(WIDE), no_rows(WIDE), AT_US, own=own, own_tie=int(own[0, 1]))
    values = dict(zip((feature.name for feature in WIDE.features), found.tolist(), strict=True))
    assert values["buyer_order_count_90d"] == 1.0
    assert values["buyer_order_weight_mean_30d"] == 0.5
    assert values["buyer_order_shop_distinct_30d"] == 1.0
    assert values["buyer_order_cents_last_30d"] == -1.0
