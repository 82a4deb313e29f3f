"""The catalogue says what is declared, and nothing that is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import pytest

from flywheel.contracts.events import PERSONAL, Event, Identifier
from flywheel.kernel.aggregation import (
    at_request,
    count,
    decayed_count,
    distinct,
    first,
    last_n,
    mean,
    since_last,
    smallest,
    stddev,
)
from flywheel.kernel.conditions import where
from flywheel.kernel.description import FeatureDescription, InputDescription, describe, describe_events
from flywheel.kernel.features import Entity, Feature, WindowedFeature
from flywheel.kernel.wording import meaning_of
from usecases.fraud import usecase

FOUND = {description.name: description for description in describe(usecase)}


class Ride(Event):
    """A ride ends. More is said below.

    Here.
    """

    event_name: ClassVar[str] = "ride_delivery"
    partition_key: ClassVar[str] = "rider_id"

    rider_id: Annotated[Identifier, PERSONAL]
    friend_id: Identifier
    wait_ms: int
    age: Annotated[int, PERSONAL]


rider = Entity("frequent_rider", key="rider_id")


def test_every_feature_is_described_once_in_its_order() -> None:
    assert tuple(FOUND) == usecase.feature_names


def test_a_window_is_told_with_its_source_key_steps_and_delay() -> None:
    window = FOUND["terminal_transaction_count_24h_delayed_7d"].window
    assert window is not None
    assert (window.entity, window.key, window.event, window.field) == ("terminal", ("terminal_id",), "transaction", "")
    assert (window.length, window.step, window.delay) == ("24 h", "1 h", "7 d")


def test_what_reads_a_feature_is_told_where_it_is_read() -> None:
    mean_30d = FOUND["card_transaction_amount_cents_mean_30d"]
    ratio = FOUND["amount_vs_card_mean_30d"]
    assert mean_30d.read_by == (ratio.name,)
    assert InputDescription(mean_30d.name, is_feature=True) in ratio.inputs
    assert InputDescription("amount_cents", is_feature=False) in ratio.inputs
    assert ratio.reasons == ("amount_far_above_usual",)


def test_a_feature_named_as_a_field_is_not_taken_for_it() -> None:
    # The fraud request has a field and a feature of the name amount_cents.
    assert FOUND["amount_cents"].inputs == (InputDescription("amount_cents", is_feature=False),)
    assert FOUND["amount_cents"].read_by == ()


@pytest.mark.parametrize(
    ("name", "personal"),
    [
        ("card_transaction_count_1h", ("card_id",)),
        ("amount_vs_card_mean_30d", ("card_id",)),
        ("terminal_risk_24h", ()),
        ("amount_cents", ()),
    ],
)
def test_personal_is_what_a_personal_field_leads_to(name: str, personal: tuple[str, ...]) -> None:
    assert FOUND[name].personal == personal


def test_a_personal_value_marks_the_feature_and_what_is_computed_from_it() -> None:
    windows = mean(Ride, "age").by(rider).over("1h")
    derived = at_request("double", inputs=(windows[0].name,), compute=lambda columns: columns[windows[0].name] * 2)
    again = at_request("fourfold", inputs=("double",), compute=lambda columns: columns["double"] * 2)
    asked = at_request("is_old", inputs=("request.age",), compute=lambda columns: columns["request.age"])
    scene = _rides((*windows, *derived, *again, *asked))
    assert scene["double"].personal == scene["fourfold"].personal == ("age", "rider_id")
    assert scene["is_old"].personal == ("age",)


def test_events_tell_their_fields_and_who_reads_them() -> None:
    payment, chargeback = describe_events(usecase)
    fields = {field.name: field for field in payment.fields}
    assert payment.is_request
    assert not chargeback.is_request
    assert [name for name, field in fields.items() if field.personal] == ["card_id"]
    assert fields["event_time"].read_by == ("hour_of_day", "is_weekend")
    assert "amount_vs_card_mean_30d" in fields["amount_cents"].read_by
    assert {field.name: field.read_by for field in chargeback.fields}["amount_cents"] == ()
    assert all(name.startswith(("card_chargeback", "terminal_chargeback")) for name in chargeback.read_by)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (smallest(Ride, "wait_ms").by(rider).over("2h"), "Smallest wait (ms) of ride deliveries of the frequent rider"),
        (stddev(Ride, "wait_ms").by(rider).over("2h"), "Standard deviation of the wait (ms) of ride deliveries of"),
        (distinct(Ride, "rider_id").by(rider).over("2h"), "Number of different values of rider id of ride deliveries"),
        (first(Ride, "age").by(rider).over("2h"), "Age of the first ride delivery of the frequent rider over 2 h"),
        (last_n(Ride, "age", 2).by(rider).over("2h")[:1], "Age of the last ride delivery of the frequent rider"),
        (last_n(Ride, "age", 2).by(rider).over("2h")[1:], "Age of the 2nd last ride delivery of the frequent rider"),
        (since_last(Ride).by(rider).over("2h"), "Time (s) since the last ride delivery of the frequent rider over"),
        (decayed_count(Ride, "30m").by(rider).over("2h"), "Count of ride deliveries that halve every 30 min of the"),
        (
            count(Ride).only(where("age").below(18)).by(rider).over("1m"),
            "Count of ride deliveries with age < 18 of",
        ),
        (
            count(Ride).by(rider).means("how often they ride").over("1h"),
            "How often they ride over 1 h, in steps of",
        ),
        (count(Ride).by(rider).over("10m"), "Count of ride deliveries of the frequent rider over 10 min, exact to the"),
    ],
)
def test_a_sentence_says_what_a_window_is(features: tuple[WindowedFeature, ...], said: str) -> None:
    (feature,) = features
    assert meaning_of(feature).startswith(said)


def test_an_owner_of_its_own_goes_before_the_use_case_s() -> None:
    mine = count(Ride).by(rider).means("rides", owner="riders team").over("1h")
    theirs = count(Ride).by(rider).over("2h")
    found = _rides((*mine, *theirs))
    assert [description.owner for description in found.values()] == ["riders team", "platform"]


def test_a_window_tells_its_filter_and_how_its_entity_is_read() -> None:
    payee = Entity("payee", key="rider_id", in_request="friend_id")
    (feature,) = count(Ride).only(where("age").at_least(18)).by(payee).over("1h")
    window = _rides((feature,), payee)[feature.name].window
    assert window is not None
    assert (window.key, window.request_key, window.conditions) == (("rider_id",), ("friend_id",), "age >= 18")
    assert _rides((feature,), payee)[feature.name].personal == ("age", "rider_id")


def _rides(features: tuple[Feature, ...], entity: Entity = rider) -> dict[str, FeatureDescription]:
    declared = replace(
        usecase,
        features=features,
        events=(Ride, *usecase.events),
        request=Ride,
        entities=(entity,),
        reasons=(),
        owner="platform",
        policy=replace(usecase.costs, amount_field="wait_ms"),
        experiment=replace(usecase.experiment, unit="rider_id"),
    )
    return {description.name: description for description in describe(declared)}
