"""Values as known at a request: windows to the event, arrivals to the microsecond."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from flywheel.kernel.aggregation import (
    count,
    decayed_count,
    distinct,
    first,
    largest,
    last_n,
    mean,
    since_last,
    smallest,
    stddev,
    total,
    variance,
)
from flywheel.kernel.conditions import where
from flywheel.kernel.durations import DAY_US, HOUR_US, MINUTE_US
from flywheel.kernel.features import Statistic, WindowedFeature
from flywheel.kernel.leakage import Recorded, Request, Way, known_value, mismatches
from tests.window_oracle import Happened, window_value
from usecases.fraud.declaration import card
from usecases.fraud.events import Transaction

AMOUNT = "amount_cents"
AT_US = 17_622 * DAY_US + 5 * HOUR_US + 17 * MINUTE_US + 23
DECLARED = (
    count(Transaction),
    count(Transaction).only(where(AMOUNT).at_least(300), where("terminal_id").equals("t1")),
    total(Transaction, AMOUNT),
    total(Transaction, AMOUNT).within(100, 2_000),
    mean(Transaction, AMOUNT, default=-1),
    smallest(Transaction, AMOUNT, default=-2),
    largest(Transaction, AMOUNT, default=-3),
    variance(Transaction, AMOUNT, default=-4),
    stddev(Transaction, AMOUNT).only(where(AMOUNT).below(700)),
    distinct(Transaction, "terminal_id"),
    first(Transaction, AMOUNT, default=-5),
    last_n(Transaction, AMOUNT, 3, default=-6),
    since_last(Transaction),
    decayed_count(Transaction, "1h"),
)
FEATURES = tuple(
    feature
    for aggregation in DECLARED
    for feature in (
        *aggregation.by(card).over("1m", "1h", "7d"),
        *aggregation.by(card).delayed("7d").in_steps_of("1h").over("24h"),
    )
)
WAY: Way = ("transaction", ("card_id",))


def request(arrived_us: int = AT_US) -> Request:
    return Request("transaction", "asked", AT_US, arrived_us)


def recorded(times_us: list[int], amounts: list[int], arrived_us: list[int] | None = None) -> Recorded:
    arrivals = times_us if arrived_us is None else arrived_us
    ids = ["asked" if time_us == AT_US else f"e{number}" for number, time_us in enumerate(times_us)]
    terminals = np.array([f"t{amount % 5}" for amount in amounts], object)
    fields = {AMOUNT: np.array(amounts), "terminal_id": terminals}
    return Recorded(ids, np.array(times_us), np.array(arrivals), fields)


def happened(events: Recorded) -> list[Happened]:
    rows = zip(events.ids, events.times_us.tolist(), events.arrived_us.tolist(), strict=True)
    return [
        Happened(
            "transaction",
            event_id,
            time_us,
            {"card_id": "c", AMOUNT: events.fields[AMOUNT][at].item(), "terminal_id": events.fields["terminal_id"][at]},
            arrived_us,
        )
        for at, (event_id, time_us, arrived_us) in enumerate(rows)
    ]


def one(statistic: Statistic) -> WindowedFeature:
    return next(f for f in FEATURES if f.statistic is statistic and f.window_us == HOUR_US and not f.conditions)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_it_equals_the_definition(feature: WindowedFeature) -> None:
    rng = random.Random(5)
    floor = AT_US // feature.step_us * feature.step_us
    low, high = floor - feature.delay_us - feature.window_us, floor - feature.delay_us if feature.delay_us else AT_US
    times_us = [edge + beside for edge in (low, high) for beside in (-1, 0, 0, 1) if edge + beside != AT_US]
    times_us += [AT_US, *(rng.randrange(low - HOUR_US, AT_US) for _ in range(40))]
    rng.shuffle(times_us)
    arrived_us = [max(time_us, AT_US - 1 + rng.randrange(3)) if time_us != AT_US else AT_US for time_us in times_us]
    events = recorded(times_us, [rng.randrange(1, 1000) for _ in times_us], arrived_us)
    every = happened(events)
    own = next(event for event in every if event.event_id == "asked")
    wanted = window_value(feature, ("c",), every, AT_US, own=own, known_us=AT_US)
    assert known_value(feature, events, request()) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_over_nothing_it_is_the_default(feature: WindowedFeature) -> None:
    wanted = max(feature.undefined, feature.bounds[0]) if feature.bounds else feature.undefined
    assert known_value(feature, None, request()) == wanted
    assert known_value(feature, recorded([0], [5]), request()) == wanted


def test_what_arrived_after_the_request_was_not_known() -> None:
    events = recorded([AT_US - 3, AT_US - 2, AT_US], [1, 2, 4], [AT_US, AT_US + 1, AT_US])
    assert known_value(one(Statistic.SUM), events, request()) == 5.0
    assert known_value(one(Statistic.SUM), events, request(AT_US + 1)) == 7.0


def test_what_was_backfilled_was_known_from_its_own_time_on() -> None:
    events = recorded([AT_US - 3, AT_US - 2, AT_US, AT_US + 1], [1, 2, 4, 8], [AT_US + DAY_US] * 2 + [AT_US] * 2)
    loaded = dataclasses.replace(events, backfilled=np.array([True, False, False, True]))
    assert known_value(one(Statistic.SUM), loaded, request()) == 5.0


def test_a_backfilled_request_knows_whatever_had_happened() -> None:
    events = recorded([AT_US - 3, AT_US - 2, AT_US, AT_US + 1], [1, 2, 4, 8], [AT_US + DAY_US] * 3 + [AT_US])
    assert known_value(one(Statistic.SUM), events, dataclasses.replace(request(), backfilled=True)) == 7.0


def test_what_happens_after_the_request_is_never_known() -> None:
    events = recorded([AT_US, AT_US + 1], [1, 2], [AT_US, AT_US])
    assert known_value(one(Statistic.SUM), events, request(AT_US + DAY_US)) == 1.0


def test_an_absent_field_takes_no_part() -> None:
    events = recorded([AT_US - 1, AT_US], [1, 2])
    absent = dataclasses.replace(events, fields={AMOUNT: np.array([np.nan, 2.0])})
    assert known_value(one(Statistic.MEAN), absent, request()) == 2.0


def test_a_difference_is_told_with_both_values() -> None:
    feature = one(Statistic.COUNT)
    events = {WAY: recorded([AT_US], [1])}
    assert not mismatches([feature], events, request(), {feature.name: 1.0})
    (found,) = mismatches([feature], events, request(), {feature.name: 2.0})
    assert str(found) == "card_transaction_count_1h of asked is 2, but 1 was known"


def test_last_digits_of_a_sum_may_differ_and_nothing_more() -> None:
    feature = one(Statistic.SUM)
    events = {WAY: recorded([AT_US, AT_US - 1], [1, 2])}
    assert not mismatches([feature], events, request(), {feature.name: 3.0 + 1e-12})
    assert mismatches([feature], events, request(), {feature.name: 3.0001})


def test_few_distinct_values_are_counted_exactly_and_many_nearly() -> None:
    feature = one(Statistic.DISTINCT)
    few = recorded([AT_US - 1, AT_US], [1, 2])
    assert mismatches([feature], {WAY: few}, request(), {feature.name: 3.0})
    ids, times_us = [f"e{number}" for number in range(100)], np.arange(AT_US - 100, AT_US)
    terminals = np.array([f"t{number}" for number in range(100)], object)
    many = {WAY: Recorded(ids, times_us, times_us, {"terminal_id": terminals})}
    assert not mismatches([feature], many, request(), {feature.name: 103.0})
    assert mismatches([feature], many, request(), {feature.name: 130.0})


def test_no_number_equals_only_no_number() -> None:
    feature = dataclasses.replace(one(Statistic.MEAN), default=float("nan"))
    assert not mismatches([feature], {}, request(), {feature.name: float("nan")})
    assert mismatches([feature], {}, request(), {feature.name: 0.0})
