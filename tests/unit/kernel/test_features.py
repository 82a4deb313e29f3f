"""The declaration language: names, steps, and errors that name what is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from flywheel.kernel import catalog
from flywheel.kernel.aggregation import (
    at_request,
    count,
    decayed_count,
    difference,
    distinct,
    last_n,
    mean,
    ratio,
    total,
)
from flywheel.kernel.attributes import attributes
from flywheel.kernel.conditions import where
from flywheel.kernel.declaration import LatencyBudget, ReasonCode, UseCase
from flywheel.kernel.durations import DAY_US, HOUR_US, MINUTE_US, parse_duration
from flywheel.kernel.features import EXACT_US, Column, Compute, Entity, InvalidDeclaration
from flywheel.kernel.plan import SLACK_US, compile_plan
from flywheel.kernel.rollout import Guardrail, Rollout
from flywheel.kernel.vector import assemble, request_columns
from usecases.fraud.declaration import card, terminal
from usecases.fraud.events import Chargeback, Transaction

FRAUD = catalog.load("fraud")


@pytest.mark.parametrize("text", ["", "1", "h", "0s", "-1s", "1.5h", "1w", " 1h"])
def test_malformed_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="whole number"):
        parse_duration(text)


def test_feature_names_say_entity_event_statistic_and_window() -> None:
    (feature,) = mean(Transaction, "amount_cents").by(card).over("7d")
    assert feature.name == "card_transaction_amount_cents_mean_7d"
    (delayed,) = count(Transaction).by(terminal).delayed("7d").over("30d")
    assert delayed.name == "terminal_transaction_count_30d_delayed_7d"


def test_names_tell_features_apart() -> None:
    big = where("amount_cents").at_least(10_000)
    named = [
        *count(Transaction).only(big).by(card).over("1h"),
        *count(Transaction).only(big, named="big").by(card).over("1h"),
        *last_n(Transaction, "amount_cents", 2).by(card).over("7d"),
        *decayed_count(Transaction, "2h").by(card).over("24h"),
        *count(Transaction).by(Entity("shop", key="card_id"), via="terminal_id").over("1h"),
    ]
    assert [feature.name for feature in named] == [
        "card_transaction_amount_cents_at_least_10000_count_1h",
        "card_transaction_big_count_1h",
        "card_transaction_amount_cents_last_1_7d",
        "card_transaction_amount_cents_last_2_7d",
        "card_transaction_decayed_2h_24h",
        "shop_as_terminal_id_transaction_count_1h",
    ]


def test_a_difference_takes_one_from_the_other() -> None:
    (feature,) = difference("more", "a", "b")
    assert feature.compute({"a": np.array([3.0]), "b": np.array([5.0])}).tolist() == [-2.0]


@pytest.mark.parametrize(
    ("window", "step_us"),
    [("10s", EXACT_US), ("10m", EXACT_US), ("11m", MINUTE_US), ("24h", MINUTE_US), ("7d", HOUR_US), ("8d", DAY_US)],
)
def test_default_steps_grow_with_the_window(window: str, step_us: int) -> None:
    (feature,) = count(Transaction).by(card).over(window)
    assert feature.step_us == step_us


@pytest.mark.parametrize(
    ("window", "delay", "bounds_us"),
    [
        ("10m", None, (95 * MINUTE_US + 7, 105 * MINUTE_US + 8)),
        ("1h", None, (45 * MINUTE_US, 105 * MINUTE_US + 8)),
        ("1h", "30m", (15 * MINUTE_US, 75 * MINUTE_US)),
        ("1m", "1m", (103 * MINUTE_US + 7, 104 * MINUTE_US + 7)),
        ("24h", "7d", (-8 * DAY_US, -7 * DAY_US)),
    ],
)
def test_a_window_has_the_same_bounds_for_one_moment_and_for_many(
    window: str, delay: str | None, bounds_us: tuple[int, int]
) -> None:
    counted = count(Transaction).by(card)
    (feature,) = (counted.delayed(delay) if delay else counted).over(window)
    at_us = 105 * MINUTE_US + 7
    assert feature.bounds_us(at_us) == bounds_us
    first_us, past_us = feature.bounds_us(np.array([at_us, at_us + DAY_US]))
    assert first_us.tolist() == [bounds_us[0], bounds_us[0] + DAY_US]
    assert past_us.tolist() == [bounds_us[1], bounds_us[1] + DAY_US]


def test_a_wrong_declaration_fails_where_it_is_made() -> None:
    with pytest.raises(InvalidDeclaration, match="no field 'device_id'"):
        count(Transaction).by(Entity("device", key="device_id"))
    with pytest.raises(InvalidDeclaration, match="not a numeric field"):
        mean(Transaction, "card_id")
    with pytest.raises(InvalidDeclaration, match="not a numeric field"):
        mean(Transaction, "amount")
    with pytest.raises(InvalidDeclaration, match=r"add \.by\(entity\)"):
        count(Transaction).over("1h")
    with pytest.raises(InvalidDeclaration, match="has no window"):
        count(Transaction).by(card).over()
    with pytest.raises(InvalidDeclaration, match="whole multiples"):
        count(Transaction).by(card).in_steps_of("1h").over("90m")
    with pytest.raises(InvalidDeclaration, match="a step is"):
        count(Transaction).by(card).in_steps_of("2h").over("4h")
    with pytest.raises(InvalidDeclaration, match="10 s or longer"):
        count(Transaction).by(card).over("9s")
    with pytest.raises(InvalidDeclaration, match="no further than 90 d"):
        count(Transaction).by(card).delayed("7d").over("84d")
    with pytest.raises(InvalidDeclaration, match="its key has 2 fields"):
        count(Transaction).by(Entity("pair", key=("card_id", "terminal_id")), via="card_id")
    with pytest.raises(InvalidDeclaration, match="no field 'outcome'"):
        count(Transaction).only(where("outcome").equals("declined"))
    with pytest.raises(InvalidDeclaration, match="amount_cents is of type int, 'much' is not"):
        count(Transaction).only(where("amount_cents").equals("much"))
    with pytest.raises(InvalidDeclaration, match="which has no order"):
        count(Transaction).only(where("card_id").at_least("c"))  # type: ignore[arg-type]
    with pytest.raises(InvalidDeclaration, match="n is between 2 and 16"):
        last_n(Transaction, "amount_cents", 17)
    with pytest.raises(InvalidDeclaration, match="half-life is too short"):
        decayed_count(Transaction, "10s").by(card).over("30d")
    with pytest.raises(InvalidDeclaration, match="not a text or whole-number field"):
        distinct(Transaction, "event_time")
    with pytest.raises(InvalidDeclaration, match="5 is not below 5"):
        total(Transaction, "amount_cents").within(5, 5)
    with pytest.raises(InvalidDeclaration, match="at least one input"):
        at_request("x", inputs=(), compute=lambda columns: columns["x"])


def test_a_use_case_names_what_is_inconsistent() -> None:
    with pytest.raises(InvalidDeclaration, match="declared twice: amount_cents"):
        dataclasses.replace(FRAUD, features=(*FRAUD.features, FRAUD.features[0]))
    with pytest.raises(InvalidDeclaration, match="'nowhere', which is neither"):
        dataclasses.replace(FRAUD, features=(*FRAUD.features, *ratio("r", "nowhere", "amount_cents")))
    with pytest.raises(InvalidDeclaration, match="label event Chargeback is not among its events"):
        dataclasses.replace(FRAUD, events=(Transaction,))
    with pytest.raises(InvalidDeclaration, match="which is not a feature"):
        dataclasses.replace(FRAUD, reasons=(ReasonCode("x", "nothing", above=0),))
    with pytest.raises(InvalidDeclaration, match="exceed its total"):
        dataclasses.replace(FRAUD, budget=LatencyBudget(total_ms=10, features_ms=8, model_ms=8))
    with pytest.raises(InvalidDeclaration, match=r"experiment\.unit names 'customer'"):
        dataclasses.replace(FRAUD, experiment=dataclasses.replace(FRAUD.experiment, unit="customer"))
    with pytest.raises(InvalidDeclaration, match=r"share of 1\.5 is not within"):
        dataclasses.replace(FRAUD, experiment=dataclasses.replace(FRAUD.experiment, challenger_share=1.5))
    with pytest.raises(InvalidDeclaration, match="would take 110% of the units"):
        dataclasses.replace(FRAUD, rollout=Rollout(steps=(0.9, 1.0)))
    with pytest.raises(InvalidDeclaration, match="about 'refuse'; actions: approve, step_up, decline"):
        dataclasses.replace(FRAUD, rollout=Rollout(guardrails=(Guardrail("refuse", 0.1),)))
    dataclasses.replace(FRAUD, rollout=Rollout(guardrails=(Guardrail("decline", 0.1),)))


def test_an_unknown_use_case_is_answered_with_those_there_are() -> None:
    with pytest.raises(InvalidDeclaration, match=r"'nope'; there are: .*fraud"):
        catalog.load("nope")


def test_the_fingerprint_follows_the_features() -> None:
    assert dataclasses.replace(FRAUD).fingerprint == FRAUD.fingerprint
    fewer = tuple(feature for feature in FRAUD.features if feature.name != "hour_of_day")
    assert dataclasses.replace(FRAUD, features=fewer).fingerprint != FRAUD.fingerprint


def with_formula(compute: Compute) -> UseCase:
    """Fraud detection with one more feature, of amount and time."""
    added = at_request("added", inputs=("request.amount_cents", "request.event_time_us"), compute=compute)
    return dataclasses.replace(FRAUD, features=(*FRAUD.features, *added))


def _amount_twice(columns: Mapping[str, Column]) -> Column:
    return columns["request.amount_cents"] * 2


def test_the_fingerprint_follows_what_is_computed_not_how_it_is_called() -> None:
    before = with_formula(lambda columns: 2 * columns["request.amount_cents"])
    assert with_formula(_amount_twice).fingerprint == before.fingerprint
    assert with_formula(lambda columns: 2.01 * columns["request.amount_cents"]).fingerprint != before.fingerprint
    assert with_formula(lambda columns: columns["request.amount_cents"] + 2).fingerprint != before.fingerprint


@pytest.mark.parametrize(("hours", "others"), [(5, 6), (23, 22)])
def test_the_fingerprint_sees_a_formula_of_the_time(hours: int, others: int) -> None:
    def before(bound: int) -> UseCase:
        return with_formula(lambda columns: np.minimum(columns["request.event_time_us"] % DAY_US, bound * HOUR_US))

    assert before(hours).fingerprint == before(hours).fingerprint
    assert before(hours).fingerprint != before(others).fingerprint


def test_the_fingerprint_follows_the_default_of_a_ratio() -> None:
    found = {
        dataclasses.replace(
            FRAUD, features=(*FRAUD.features, *ratio("r", "request.amount_cents", "hour_of_day", default=default))
        ).fingerprint
        for default in (0.0, 1.0, float("nan"))
    }
    assert len(found) == 3


def test_a_formula_that_refuses_an_input_has_a_fingerprint_too() -> None:
    def above(bound: float) -> Compute:
        def compute(columns: Mapping[str, Column]) -> Column:
            if not (columns["request.amount_cents"] >= bound).all():
                raise ValueError("too small")
            return columns["request.amount_cents"]

        return compute

    assert with_formula(above(0)).fingerprint == with_formula(above(0)).fingerprint
    assert with_formula(above(0)).fingerprint != with_formula(above(1)).fingerprint


def test_a_changed_formula_leaves_what_is_stored_alone() -> None:
    assert with_formula(_amount_twice).windowed_fingerprint == FRAUD.windowed_fingerprint
    more = (*FRAUD.features, *count(Transaction).by(card).over("2h"))
    assert dataclasses.replace(FRAUD, features=more).windowed_fingerprint != FRAUD.windowed_fingerprint


def test_the_plan_keeps_what_the_widest_window_needs() -> None:
    views = {view.entity.name: view for view in compile_plan(FRAUD).views}
    newest_us = 17_622 * DAY_US + 5 * HOUR_US + 11
    for view in views.values():
        for feature in view.features:
            (lane,) = [n for n in view.lanes if n.step_us == feature.step_us] or view.lanes[:1]
            read_us = newest_us - SLACK_US
            tail_us = read_us - read_us % feature.step_us - feature.window_us - feature.delay_us
            assert lane.oldest_us(newest_us) <= tail_us
        for finer, coarser in pairwise(view.lanes):
            assert finer.oldest_us(newest_us) <= (newest_us - SLACK_US) // coarser.step_us * coarser.step_us
    assert views["card"].fingerprint != views["terminal"].fingerprint


def test_vectors_have_the_declared_order_and_request_features() -> None:
    event = Transaction.model_validate(
        {
            "event_id": "t1",
            "event_time": "2018-04-01T13:30:00Z",
            "card_id": "c1",
            "terminal_id": "t1",
            "amount_cents": 900,
        }
    )
    columns = {name: np.array([value]) for name, value in request_columns(event).items()}
    columns |= {feature.name: np.array([2.0]) for feature in FRAUD.windowed}
    columns["card_transaction_amount_cents_mean_30d"] = np.array([300.0])
    row = dict(zip(FRAUD.feature_names, assemble(FRAUD, columns)[0], strict=True))
    assert row["amount_cents"] == 900
    assert row["hour_of_day"] == 13
    assert row["is_weekend"] == 1  # 1 April 2018 was a Sunday
    assert row["amount_vs_card_mean_30d"] == 3
    assert row["terminal_risk_7d"] == 1


def test_personal_fields_are_marked() -> None:
    assert Transaction.personal_fields() == {"card_id"}
    assert Chargeback.personal_fields() == {"card_id"}


@pytest.mark.parametrize(("day", "weekend"), [(0, 1), (1, 0), (5, 0), (6, 1), (7, 1), (8, 0)])
def test_weekend(day: int, weekend: int) -> None:
    feature = next(f for f in FRAUD.at_request if f.name == "is_weekend")
    sunday = 17_622 * DAY_US + 5 * HOUR_US
    assert feature.compute({"request.event_time_us": np.array([float(sunday + day * DAY_US)])})[0] == weekend


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ((count(Transaction).by(card).over("1h"),), r"number 1 of its features is tuple .* write a star"),
        ((*count(Transaction).by(card).over("1h"), count(Transaction).by(card)), "number 2 .* is Aggregation"),
        ((attributes("profile", "age").by(card),), r"number 1 .* is Attributes .*\.valid_for"),
    ],
)
def test_what_is_no_feature_is_named_by_its_place(features: Any, message: str) -> None:
    with pytest.raises(InvalidDeclaration, match=message):
        dataclasses.replace(FRAUD, features=features, reasons=())


def test_a_word_without_its_end_makes_no_features() -> None:
    with pytest.raises(InvalidDeclaration, match=r"count of Transaction has no window; end it with \.over"):
        [*count(Transaction).by(card)]
    with pytest.raises(InvalidDeclaration, match=r"'profile' do not say how long they are valid"):
        [*attributes("profile", "age").by(card)]
