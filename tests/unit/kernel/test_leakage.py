"""Values as known at a request: windows to the event, arrivals to the microsecond."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from flywheel.kernel.aggregation import count, largest, mean, smallest, total
from flywheel.kernel.durations import DAY_US, HOUR_US, MINUTE_US
from flywheel.kernel.features import Statistic, WindowedFeature
from flywheel.kernel.leakage import Recorded, Request, known_value, mismatches
from tests.window_oracle import Happened, window_value
from usecases.fraud.declaration import card
from usecases.fraud.events import Transaction

AT_US = 17_622 * DAY_US + 5 * HOUR_US + 17 * MINUTE_US + 23
FEATURES = tuple(
    feature
    for made in (count(Transaction), total(Transaction, "amount_cents"), mean(Transaction, "amount_cents", default=-1))
    for feature in (*made.by(card).over("1h", "7d"), *made.by(card).delayed("7d").in_steps_of("1h").over("24h"))
) + tuple(
    feature
    for made in (smallest(Transaction, "amount_cents", default=-2), largest(Transaction, "amount_cents", default=-3))
    for feature in made.by(card).over("1h", "30d")
)


def request(arrived_us: int = AT_US) -> Request:
    return Request("asked", AT_US, arrived_us)


def recorded(times_us: list[int], amounts: list[float], arrived_us: list[int] | None = None) -> Recorded:
    arrivals = times_us if arrived_us is None else arrived_us
    return Recorded(np.array(times_us), np.array(arrivals), {"amount_cents": np.array(amounts)})


def one(statistic: Statistic, window: str = "1h") -> WindowedFeature:
    return next(f for f in FEATURES if f.statistic is statistic and f.name.endswith(window))


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_it_equals_the_definition(feature: WindowedFeature) -> None:
    rng = np.random.default_rng(5)
    floor = AT_US // feature.step_us * feature.step_us
    low, high = floor - feature.delay_us - feature.window_us, floor - feature.delay_us if feature.delay_us else AT_US
    near = [edge + beside for edge in (low, high) for beside in (-1, 0, 1)]
    times_us = [*near, *rng.integers(low - DAY_US, AT_US, 40).tolist()]
    rng.shuffle(times_us)
    amounts = rng.integers(1, 1000, len(times_us)).astype(float).tolist()
    everything_us = request(max(times_us))
    found = known_value(feature, recorded(times_us, amounts), everything_us)
    events = [
        Happened("transaction", str(number), time_us, {"card_id": "c", "amount_cents": amount})
        for number, (time_us, amount) in enumerate(zip(times_us, amounts, strict=True))
    ]
    assert found == pytest.approx(window_value(feature, ("c",), events, AT_US), rel=1e-12)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_over_nothing_it_is_the_default(feature: WindowedFeature) -> None:
    empty = 0.0 if feature.statistic in (Statistic.COUNT, Statistic.SUM) else feature.default
    assert known_value(feature, None, request()) == empty
    assert known_value(feature, recorded([0], [5.0]), request()) == empty


def test_what_arrived_after_the_request_was_not_known() -> None:
    events = recorded([AT_US - 3, AT_US - 2, AT_US], [1.0, 2.0, 4.0], [AT_US, AT_US + 1, AT_US])
    assert known_value(one(Statistic.SUM), events, request()) == 5.0
    assert known_value(one(Statistic.SUM), events, request(AT_US + 1)) == 7.0


def test_what_happens_after_the_request_is_never_known() -> None:
    events = recorded([AT_US, AT_US + 1], [1.0, 2.0], [AT_US, AT_US])
    assert known_value(one(Statistic.SUM), events, request(AT_US + DAY_US)) == 1.0


def test_a_difference_is_told_with_both_values() -> None:
    feature = one(Statistic.COUNT)
    events = {"transaction": recorded([AT_US], [1.0])}
    assert not mismatches([feature], events, request(), {feature.name: 1.0})
    (found,) = mismatches([feature], events, request(), {feature.name: 2.0})
    assert str(found) == "card_transaction_count_1h of asked is 2, but 1 was known"


def test_sums_of_fractions_may_differ_in_their_last_digits_only() -> None:
    feature = one(Statistic.SUM)
    events = {"transaction": recorded([AT_US, AT_US - 1], [0.1, 0.2])}
    assert not mismatches([feature], events, request(), {feature.name: 0.1 + 0.2})
    assert mismatches([feature], events, request(), {feature.name: 0.3001})


def test_no_number_equals_only_no_number() -> None:
    feature = dataclasses.replace(one(Statistic.MEAN), default=float("nan"))
    assert not mismatches([feature], {}, request(), {feature.name: float("nan")})
    assert mismatches([feature], {}, request(), {feature.name: 0.0})
