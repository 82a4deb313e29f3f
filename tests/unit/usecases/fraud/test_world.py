"""Days of the card-payment world: the same for the same seed, each by itself, chargebacks when they are due."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from flywheel.contracts.events import from_us
from flywheel.kernel import catalog
from flywheel.kernel.durations import DAY_US
from flywheel.kernel.world import Day, Drift
from usecases.fraud.world import FraudWorld, Knobs, build

SMALL = Knobs(seed=3, customers=200, prevalence=10)


@pytest.fixture(scope="module")
def world() -> FraudWorld:
    return build(SMALL)


def labels(days: list[Day]) -> dict[str, int]:
    """Event time of every chargeback by the transaction it is about."""
    return {
        event.fields["transaction_id"]: event.event_time_us
        for day in days
        for event in day.events
        if event.event_name == "chargeback"
    }


def test_a_day_is_the_same_without_the_days_before_it(world: FraudWorld) -> None:
    in_order = [world.day(number) for number in range(41)]
    assert build(SMALL).day(40) == in_order[40]
    assert world.day(5) == in_order[5]


def test_another_seed_is_another_world(world: FraudWorld) -> None:
    assert build(SMALL.model_copy(update={"seed": 4})).day(0).events != world.day(0).events


def test_events_are_valid_ordered_within_their_day_and_unique(world: FraudWorld) -> None:
    usecase = catalog.load("fraud")
    for number in range(12):
        events = world.day(number).events
        first_us = world.start_us + number * DAY_US
        times = [event.event_time_us for event in events]
        assert times == sorted(times)
        assert first_us <= times[0]
        assert times[-1] < first_us + DAY_US
        assert len({event.fields["event_id"] for event in events}) == len(events)
        for event in events:
            parsed = usecase.event_named(event.event_name).model_validate(dict(event.fields))
            assert parsed.event_time == from_us(event.event_time_us)


def test_every_fraud_and_nothing_else_is_charged_back_once_after_the_declared_delay(world: FraudWorld) -> None:
    days = [world.day(number) for number in range(30)]
    happened = {
        event.fields["event_id"]: event.event_time_us
        for day in days[:20]
        for event in day.events
        if event.event_name == "transaction"
    }
    truth = {truth.event_id for day in days[:20] for truth in day.truth}
    charged = {name: at_us for name, at_us in labels(days).items() if name in happened}
    assert truth
    assert charged.keys() == truth
    delays = [(at_us - happened[name]) / DAY_US for name, at_us in charged.items()]
    assert min(delays) >= 2 - 1e-4
    assert max(delays) <= 7
    assert max(delays) - min(delays) > 3


def test_a_fixed_delay_is_exact() -> None:
    world = build(SMALL.model_copy(update={"label_delay_min_days": 7, "label_delay_max_days": 7}))
    days = [world.day(number) for number in range(10)]
    happened = {event.fields["event_id"]: event.event_time_us for day in days for event in day.events}
    delays = {at_us - happened[name] for name, at_us in labels(days).items()}
    assert delays == {7 * DAY_US}


def test_chargebacks_repeat_what_they_dispute(world: FraudWorld) -> None:
    days = [world.day(number) for number in range(10)]
    happened = {event.fields["event_id"]: event.fields for day in days for event in day.events}
    disputed = [event.fields for day in days for event in day.events if event.event_name == "chargeback"]
    assert disputed
    for fields in disputed:
        transaction = happened[fields["transaction_id"]]
        for name in ("card_id", "terminal_id", "amount_cents"):
            assert fields[name] == transaction[name]


def test_prevalence_multiplies_fraud() -> None:
    def frauds(prevalence: float) -> int:
        world = build(Knobs(customers=1_000, prevalence=prevalence))
        return sum(int((world.payments(day).scenario > 1).sum()) for day in range(30, 60))

    assert frauds(0) == 0
    assert 3 < frauds(5) / frauds(1) < 7


def test_amounts_drift_from_the_day_on_and_not_before() -> None:
    drifted = build(SMALL.model_copy(update={"drift_kind": Drift.AMOUNTS, "drift_day": 10, "drift_factor": 2.0}))
    plain = build(SMALL)
    assert np.array_equal(drifted.payments(9).amount_cents, plain.payments(9).amount_cents)
    assert np.array_equal(drifted.payments(10).amount_cents, 2 * plain.payments(10).amount_cents)
    assert np.array_equal(drifted.payments(10).scenario, plain.payments(10).scenario)


def test_volume_drifts() -> None:
    knobs = SMALL.model_copy(update={"drift_kind": Drift.VOLUME, "drift_day": 10, "drift_factor": 3.0})
    before, after = (
        sum(len(build(knobs).payments(day).time_us) for day in days) for days in (range(5, 10), range(10, 15))
    )
    assert 2.5 < after / before < 3.5


def test_daily_requests_are_what_a_day_brings_on_average(world: FraudWorld) -> None:
    mean = np.mean([len(world.payments(day).time_us) for day in range(40)])
    # The mean of 40 days of about 390 payments has a standard error below 1 %.
    assert mean == pytest.approx(world.daily_requests, rel=0.04)


def test_causes_are_named(world: FraudWorld) -> None:
    causes = Counter(truth.cause for number in range(60) for truth in world.day(number).truth)
    assert causes.keys() == {"large_amount", "compromised_terminal", "compromised_card"}
