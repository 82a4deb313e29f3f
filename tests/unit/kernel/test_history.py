"""History equals a count over the raw events, and the fold of tiles at the same moments."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.kernel import catalog
from flywheel.kernel.durations import DAY_US, HOUR_US, MINUTE_US
from flywheel.kernel.features import WindowedFeature, smallest
from flywheel.kernel.history import PastEvents, history
from flywheel.kernel.plan import TileView, compile_plan
from tests.window_oracle import window_value

PLAN = compile_plan(catalog.load("fraud"))
START_US = 17_622 * DAY_US
GAPS = st.one_of(st.sampled_from([0, 1, MINUTE_US - 1, MINUTE_US, HOUR_US, DAY_US]), st.integers(0, 5 * DAY_US))
EVENTS = st.lists(st.tuples(GAPS, st.integers(1, 100_000)), max_size=40)


def past(events: list[tuple[int, int]]) -> PastEvents:
    times = START_US + np.cumsum([gap for gap, _ in events], dtype=np.int64)
    return PastEvents(times, {"amount_cents": np.array([amount for _, amount in events], np.int64)})


def oracle(feature: WindowedFeature, events: PastEvents, at_us: int) -> float:
    pairs = zip(events.times_us.tolist(), events.fields["amount_cents"].tolist(), strict=True)
    return window_value(feature, pairs, at_us)


def with_minimum(view: TileView) -> TileView:
    """The view and a minimum, which the declaration happens not to have."""
    entity, event = view.entity, PLAN.usecase.request
    features = (*view.features, *smallest(event, "amount_cents", default=-1.0).by(entity).over("1h", "30d"))
    return TileView(view.name, entity, view.measures, view.lanes, features)


@settings(max_examples=150, deadline=None)
@given(EVENTS, EVENTS, st.sampled_from(PLAN.views))
def test_history_equals_brute_force(
    transactions: list[tuple[int, int]], chargebacks: list[tuple[int, int]], view: TileView
) -> None:
    view = with_minimum(view)
    events = {"transaction": past(transactions), "chargeback": past(chargebacks)}
    at_us = events["transaction"].times_us
    found = history(view, events, at_us)
    for row, moment in zip(found, at_us.tolist(), strict=True):
        expected = [oracle(feature, events[feature.event.event_name], moment) for feature in view.features]
        assert row.tolist() == expected


def test_an_event_that_never_happened_leaves_the_defaults() -> None:
    (view, _) = PLAN.views
    found = history(view, {"transaction": past([(0, 700)])}, np.array([START_US]))
    values = dict(zip((feature.name for feature in view.features), found[0].tolist(), strict=True))
    assert values["card_chargeback_count_30d"] == 0.0
    assert values["card_transaction_amount_cents_mean_30d"] == 700.0


def test_a_hot_entity_is_counted_like_any_other() -> None:
    view = with_minimum(PLAN.views[0])
    amounts = np.arange(100_000) % 997
    hot = PastEvents(START_US + np.arange(100_000) * 1_000_000, {"amount_cents": amounts})
    found = history(view, {"transaction": hot}, hot.times_us)
    last = dict(zip((feature.name for feature in view.features), found[-1].tolist(), strict=True))
    # The last event is 40 seconds into its minute, and 27 hours, 46 minutes and 39 seconds into the stream.
    assert last["card_transaction_count_1m"] == 60 + 40
    assert last["card_transaction_count_1h"] == 3600 + 40
    assert last["card_transaction_amount_cents_mean_30d"] == amounts.sum() / 100_000
    assert last["card_transaction_amount_cents_max_30d"] == 996.0
    assert last["card_transaction_amount_cents_min_30d"] == 0.0
