"""Late, doubled and broken deliveries come in the share the knobs say, and the same at every start."""

from __future__ import annotations

from itertools import pairwise

import pytest
from pydantic import ValidationError

from flywheel.client.deliveries import LONGEST_DELAY_US, Deliveries, Delivery, Kind, spoil
from flywheel.kernel import catalog
from flywheel.kernel.durations import DAY_US
from flywheel.kernel.world import World, WorldKnobs
from usecases.fraud.world import Knobs, build

CLEAN = WorldKnobs(late_share=0, duplicate_share=0, malformed_share=0)
ROUGH = WorldKnobs(late_share=0.3, duplicate_share=0.2, malformed_share=0.1)


def planned(world: World, knobs: WorldKnobs, days: int) -> list[Delivery]:
    deliveries = Deliveries(world, knobs, "transaction")
    return [delivery for number in range(days) for delivery in deliveries.of_day(number)[0]]


def test_without_disturbance_the_events_are_delivered_as_they_are(world: World) -> None:
    deliveries = planned(world, CLEAN, 3)
    events = [event for number in range(3) for event in world.day(number).events]
    assert [delivery.fields for delivery in deliveries] == [event.fields for event in events]
    assert {delivery.kind for delivery in deliveries} == {Kind.PLAIN}
    assert all(delivery.asks == (delivery.event_name == "transaction") for delivery in deliveries)


def test_every_event_is_sent_once_and_every_request_asked_about_once(world: World) -> None:
    deliveries = planned(world, ROUGH, 20)
    genuine = [d.fields["event_id"] for d in deliveries if d.sends and d.kind in (Kind.PLAIN, Kind.LATE)]
    asked = [d.fields["event_id"] for d in deliveries if d.asks]
    assert len(genuine) == len(set(genuine))
    assert len(asked) == len(set(asked)) == 20 * 24
    # All but what is still late after the last day.
    first_days = {e.fields["event_id"] for number in range(19) for e in world.day(number).events}
    assert first_days <= set(genuine)


def test_shares_are_the_declared_ones() -> None:
    deliveries = planned(build(Knobs(customers=300)), ROUGH, 15)
    events = sum(d.sends and d.kind in (Kind.PLAIN, Kind.LATE) for d in deliveries)
    # About 8,500 events: three standard errors are below 0.015.
    for kind, share in ((Kind.LATE, 0.3), (Kind.DUPLICATE, 0.2), (Kind.MALFORMED, 0.1)):
        assert sum(d.kind is kind for d in deliveries) / events == pytest.approx(share, abs=0.02)


def test_a_day_is_planned_alike_with_and_without_the_days_before(world: World) -> None:
    in_order = Deliveries(world, ROUGH, "transaction")
    for number in range(6):
        expected = in_order.of_day(number)
    assert Deliveries(world, ROUGH, "transaction").of_day(5) == expected


def test_deliveries_are_ordered_and_late_ones_not_later_than_promised(world: World) -> None:
    deliveries = planned(world, ROUGH, 10)
    assert all(one.at_us <= next_.at_us for one, next_ in pairwise(deliveries))
    happened = {e.fields["event_id"]: e.event_time_us for number in range(10) for e in world.day(number).events}
    late = [d for d in deliveries if d.kind is Kind.LATE]
    delays = [d.at_us - happened[str(d.fields["event_id"])] for d in late]
    assert min(delays) > 0
    assert max(delays) < LONGEST_DELAY_US
    assert any(d.at_us // DAY_US != happened[str(d.fields["event_id"])] // DAY_US for d in late)


def test_no_spoilt_event_is_valid(world: World) -> None:
    usecase = catalog.load("fraud")
    for event in world.day(0).events:
        for variant in range(4):
            with pytest.raises(ValidationError):
                usecase.event_named(event.event_name).model_validate(spoil(event, variant))
