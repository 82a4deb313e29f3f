"""Attributes as they are declared, and what a decision makes of what is loaded: status, age, defaults."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.contracts.decisions import FeatureStatus
from flywheel.kernel.attributes import AttributeRow, attributes, reads_of, tables_of
from flywheel.kernel.decision import Answered, Decided, Decider, DecisionRequest
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.description import describe
from flywheel.kernel.durations import DAY_US, HOUR_US
from flywheel.kernel.features import Entity, InvalidDeclaration
from flywheel.kernel.lineup import Lineup, LoadedModel
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ports import Lane, StoreProgress
from flywheel.kernel.stored_values import ScalarType, encode_scalar
from flywheel.kernel.timing import Clock
from tests.attribute_scene import (
    CARD,
    PLAN,
    PROFILE,
    PROFILE_DEFAULT,
    SEGMENT_DEFAULT,
    SEGMENTS,
    TERMINAL,
    TRUST,
    USECASE,
    VALID_US,
    profile,
)
from tests.serving_parts import AT_US, payment


class Fixed:
    def score(self, rows: np.ndarray) -> np.ndarray:
        return np.full(len(rows), 0.01)


class Quiet:
    def __init__(self) -> None:
        self.foreign: list[str] = []

    def features_unavailable(self, reason: str) -> None: ...

    def foreign_state(self, reason: str) -> None:
        self.foreign.append(reason)

    def model_failed(self, version: str, reason: str) -> None:
        raise AssertionError(f"{version}: {reason}")

    def unanswered(self, late: Answered, model_ms: float | None) -> None: ...


@pytest.fixture
def store() -> MemoryFeatureStore:
    made = MemoryFeatureStore(PLAN)
    made.progress = {Lane.EDGE: StoreProgress(AT_US, AT_US)}
    return made


async def decide(store: MemoryFeatureStore, observer: Quiet | None = None, usecase: UseCase = USECASE) -> Decided:
    decider = Decider(
        usecase,
        store.reader(),
        lambda: Lineup(LoadedModel("v1", Fixed()), sequence=1),
        clock=Clock(wall_us=lambda: AT_US, steady_s=lambda: 0.0),
        new_id=lambda: "id",
        observer=observer or Quiet(),
    )
    subject = payment(terminal_id="t1", card_id="c1", amount_cents=6_000)
    (decision,) = await decider.decide([DecisionRequest(subject)])
    assert isinstance(decision, Decided)
    return decision


def values(decision: Decided) -> dict[str, float]:
    return dict(zip(decision.feature_names, decision.features, strict=True))


async def test_a_loaded_row_is_fresh_and_its_features_are_inputs_of_others(store: MemoryFeatureStore) -> None:
    store.put(PROFILE, [profile("t1", AT_US - DAY_US), profile("t2", AT_US, limit=1.0)])
    store.put(TRUST, [AttributeRow(("t1", "c1"), AT_US, (0.25,)), AttributeRow(("c1", "t1"), AT_US, (0.5,))])
    decision = await decide(store)
    found = values(decision)
    assert (found["terminal_floor_limit_cents"], found["terminal_opened_days"]) == (5_000.0, 400.0)
    assert (found["pair_share"], found["over_limit"]) == (0.25, 1.0)
    assert decision.feature_status["terminal_profile"] is FeatureStatus.FRESH
    assert decision.feature_age_ms == {"terminal_profile": DAY_US / 1000, "trust": 0.0}


async def test_without_windows_there_is_nothing_that_could_be_behind() -> None:
    alone = dataclasses.replace(USECASE, features=PROFILE.features, reasons=())
    store = MemoryFeatureStore(compile_plan(alone))
    store.put(PROFILE, [profile("t1", AT_US - DAY_US)])
    decision = await decide(store, usecase=alone)
    assert decision.feature_lag_ms == 0
    assert decision.feature_status == {"terminal_profile": FeatureStatus.FRESH}
    assert decision.fallback == "none"


async def test_what_was_never_loaded_is_missing_and_has_its_default(store: MemoryFeatureStore) -> None:
    decision = await decide(store)
    assert values(decision)["terminal_floor_limit_cents"] == PROFILE_DEFAULT
    assert values(decision)["card_rank"] == SEGMENT_DEFAULT
    assert {decision.feature_status[table.name] for table in USECASE.attribute_tables} == {FeatureStatus.MISSING}
    assert decision.feature_age_ms == {}
    assert decision.fallback == "none"


@pytest.mark.parametrize(
    ("age_us", "status"),
    [
        (0, FeatureStatus.FRESH),
        (VALID_US, FeatureStatus.FRESH),
        (VALID_US + 1, FeatureStatus.STALE),
        (-1, FeatureStatus.STALE),
    ],
)
async def test_a_load_is_valid_from_its_moment_to_its_end(
    store: MemoryFeatureStore, age_us: int, status: FeatureStatus
) -> None:
    store.put(PROFILE, [profile("t1", AT_US - age_us)])
    decision = await decide(store)
    assert decision.feature_status["terminal_profile"] is status
    fresh = status is FeatureStatus.FRESH
    assert values(decision)["terminal_floor_limit_cents"] == (5_000.0 if fresh else PROFILE_DEFAULT)
    assert decision.feature_age_ms["terminal_profile"] == age_us / 1000


async def test_null_has_the_default_and_what_has_no_end_stays(store: MemoryFeatureStore) -> None:
    store.put(PROFILE, [profile("t1", AT_US, limit=None)])
    store.put(SEGMENTS, [AttributeRow(("c1",), 0, (7.0,))])
    decision = await decide(store)
    found = values(decision)
    assert (found["terminal_floor_limit_cents"], found["terminal_opened_days"]) == (PROFILE_DEFAULT, 400.0)
    assert found["card_rank"] == 7.0
    assert decision.feature_status["segments"] is FeatureStatus.FRESH


async def test_foreign_values_are_refused_and_the_rule_decides(store: MemoryFeatureStore) -> None:
    store.put(PROFILE, [profile("t1", AT_US)])
    name = PROFILE.stored_name("opened_days")
    text = encode_scalar(ScalarType.INT64, 3)
    store.attributes[TERMINAL].put(PROFILE.view("fraud").name, name, {"terminal_id": "t1"}, text)
    observer = Quiet()
    decision = await decide(store, observer)
    assert decision.feature_status["terminal_profile"] is FeatureStatus.UNAVAILABLE
    assert decision.fallback == "features_unavailable"
    assert any("terminal_profile" in reason for reason in observer.foreign)


def test_one_rule_at_many_moments() -> None:
    at_us = np.array([10.0, 10.0, 10.0, 10.0]) * HOUR_US
    as_of_us = np.array([math.nan, 10 * HOUR_US, 11 * HOUR_US, 10 * HOUR_US - VALID_US - 1])
    columns = {PROFILE.stored_name(name): np.array([1.0, 2.0, 3.0, 4.0]) for name in PROFILE.columns}
    found = PROFILE.at(columns | {PROFILE.as_of: as_of_us}, at_us)
    assert found["terminal_floor_limit_cents"].tolist() == [PROFILE_DEFAULT, 2.0, PROFILE_DEFAULT, PROFILE_DEFAULT]


def test_a_wrong_declaration_fails_where_it_is_made() -> None:
    for wrong, message in (
        (lambda: attributes("profile"), "name no column"),
        (lambda: attributes("my profile", "age"), "'my profile' is no plain name"),
        (lambda: attributes("profile", "as_of"), "reserved"),
        (lambda: attributes("profile", "age").valid_for("30d"), "say no entity"),
        (lambda: attributes("profile", "age").by(CARD).valid_for("a month"), "not a duration"),
        (lambda: attributes("profile", "age").by(CARD).valid_for("30d", default=math.nan), "not a finite number"),
        (lambda: attributes("profile", "age", "age").by(CARD).valid_for("30d"), "'age' twice"),
    ):
        with pytest.raises((InvalidDeclaration, ValueError), match=message):
            wrong()


def test_a_use_case_names_what_is_inconsistent() -> None:
    mixed = (*attributes("p", "a").by(CARD).valid_for("1d"), *attributes("p", "b").by(CARD).valid_for("2d"))
    for features, message in (
        (mixed, "about one entity, equally long valid"),
        (attributes("card", "age").by(CARD).valid_forever(), "the name of an entity or event"),
        (attributes("p", "card_id").by(CARD).valid_forever(), "is a key of 'p'"),
    ):
        with pytest.raises(InvalidDeclaration, match=message):
            dataclasses.replace(USECASE, features=features, reasons=())
    cached = attributes("quick", "age").by(CARD).cached_for("5s").valid_forever()
    with pytest.raises(InvalidDeclaration, match="one command reads both"):
        tables_of((*cached, *attributes("slow", "limit").by(CARD).valid_forever()))
    with pytest.raises(InvalidDeclaration, match="equally long cached"):
        tables_of((*cached, *attributes("quick", "limit").by(CARD).valid_forever()))
    with pytest.raises(InvalidDeclaration, match="about 'pair', which is not among"):
        dataclasses.replace(USECASE, entities=(CARD, TERMINAL))


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"card_tiles": "a"},
            "the table 'card_tiles' .* 'fraud_card_tiles', which is the view of the windows of 'card'",
        ),
        ({"terminal_history": "a"}, "'fraud_terminal_history', which is the view of the history of 'terminal'"),
        ({"Features": "a"}, "'fraud_Features', which is the view of all features"),
        (
            {"p": "a", "P": "b"},
            "moment of the table 'P' would be stored as 'P_as_of_us', which is the moment of the table 'p'",
        ),
        ({"p": "as_of_us"}, "column 'as_of_us' of the table 'p' .* 'p_as_of_us', which is the moment of the table 'p'"),
        ({"a_b": "c", "a": "b_c"}, "'b_c' of the table 'a' .* 'a_b_c', which is the column 'c' of the table 'a_b'"),
        (
            {"p": "x_as_of_us", "p_x": "a"},
            "moment of the table 'p_x' .* which is the column 'x_as_of_us' of the table 'p'",
        ),
        ({"event": "timestamp"}, "'event_timestamp', which is a moment of each load"),
        ({"merchant": "id"}, "'merchant_id', which is a key of 'shop'"),
        ({"web": "shop_state"}, "'web_shop_state', which is the tiles of 'web_shop'"),
        ({"request": "amount_cents"}, "'request_amount_cents', which is the field 'amount_cents' of the request"),
        ({"over": "limit"}, "'over_limit', which is a feature"),
    ],
)
def test_one_name_never_means_two_things(tables: dict[str, str], message: str) -> None:
    shops = (Entity(n, key=k, in_request="terminal_id") for n, k in (("shop", "merchant_id"), ("web_shop", "web_id")))
    declared = (attributes(table, column).by(CARD).valid_forever() for table, column in tables.items())
    features = (*USECASE.features, *itertools.chain.from_iterable(declared))
    with pytest.raises(InvalidDeclaration, match=message):
        dataclasses.replace(USECASE, entities=(*USECASE.entities, *shops), features=features)


def test_the_fingerprint_follows_attributes_and_the_streams_does_not() -> None:
    other = tuple(
        dataclasses.replace(feature, valid_us=None) if feature in USECASE.attributes else feature
        for feature in USECASE.features
    )
    changed = dataclasses.replace(USECASE, features=other)
    assert changed.fingerprint != USECASE.fingerprint
    assert changed.windowed_fingerprint == USECASE.windowed_fingerprint


def test_the_catalogue_says_where_an_attribute_comes_from() -> None:
    said = {each.name: each for each in describe(USECASE)}["terminal_floor_limit_cents"]
    assert said.meaning == "Floor limit (cents) of the terminal"
    assert said.attribute is not None
    assert (said.attribute.table, said.attribute.valid_for, said.attribute.default) == (
        "terminal_profile",
        "30 d",
        PROFILE_DEFAULT,
    )
    assert said.read_by == ("over_limit",)


def test_rows_are_cached_as_long_as_the_shortest_of_their_tables_allows() -> None:
    quick = attributes("quick", "age").by(CARD).cached_for("5s").valid_forever()
    slow = attributes("slow", "limit").by(CARD).cached_for("1m").valid_forever()
    (read,) = reads_of("shop", tables_of((*quick, *slow)))
    assert read.cached_us == 5_000_000
    (read,) = reads_of("shop", tables_of(attributes("quick", "age").by(CARD).valid_forever()))
    assert read.cached_us is None
