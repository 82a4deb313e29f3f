"""The fallback ladder: which step answers, as a use case declares it, and what the answer and its record say of it."""

from __future__ import annotations

import dataclasses

import pytest

from flywheel.contracts.decisions import Fallback, Step
from flywheel.kernel.decision import Decided
from flywheel.kernel.declaration import Ladder, RuleScore, StaticAnswer, UseCase
from flywheel.kernel.features import InvalidDeclaration
from flywheel.kernel.lineup import Lineup
from flywheel.kernel.ports import Lane, StoreProgress, ViewKey
from tests.decision_scene import NOW_US, Broken, Scene, Slow, values
from tests.serving_parts import USECASE, VIEWS, Past, payment

RULE = "rule:amount_above_220"
PAST = [Past("tx1", 120, 1_000), Past("tx2", 3_700, 3_000)]


def laddered(**words: object) -> UseCase:
    return dataclasses.replace(USECASE, ladder=Ladder(**words))  # type: ignore[arg-type]  # each test its words


def stale(usecase: UseCase) -> Scene:
    """A store that knows the card and has fallen behind."""
    scene = Scene(score=0.9, usecase=usecase)
    scene.remember("card", "c1", PAST)
    scene.store.progress = {Lane.EDGE: StoreProgress(NOW_US - 60_000_000, NOW_US)}
    return scene


def said(decision: Decided) -> tuple[Step, Fallback, str]:
    logged = decision.logged()
    assert (logged.step, logged.fallback) == (decision.step, decision.fallback)
    return decision.step, decision.fallback, decision.model_version


async def test_stale_features_go_to_the_model_unless_declared_otherwise() -> None:
    decision = await stale(USECASE).decide()
    assert said(decision) == (Step.MODEL, Fallback.NONE, "v1")
    assert values(decision)["card_transaction_count_24h"] == 3


async def test_stale_features_can_be_replaced_by_their_defaults() -> None:
    scene = stale(laddered(stale=Step.DEFAULTS))
    decision = await scene.decide()
    assert said(decision) == (Step.DEFAULTS, Fallback.FEATURES_STALE, "v1")
    assert decision.reasons[0] == "features_stale"
    assert values(decision)["card_transaction_count_24h"] == 0
    # What is new to the store is not stale: its own payment counts.
    assert values(decision)["terminal_transaction_count_1h"] == 1
    assert values(decision)["amount_vs_card_mean_30d"] == 5_000
    assert scene.model.rows[0][0].tolist() == decision.features
    assert decision.feature_status["card"] == "stale"


@pytest.mark.parametrize(("step", "version"), [(Step.RULE, RULE), (Step.STATIC, "static")])
async def test_stale_features_can_leave_it_to_the_rule_or_below(step: Step, version: str) -> None:
    scene = stale(laddered(stale=step))
    decision = await scene.decide()
    assert said(decision) == (step, Fallback.FEATURES_STALE, version)
    assert scene.model.rows == []
    assert values(decision)["card_transaction_count_24h"] == 3


async def test_features_that_cannot_be_had_can_have_their_defaults() -> None:
    scene = Scene(score=0.9, usecase=laddered(unavailable=Step.DEFAULTS))
    scene.reader = Slow(scene.store.reader(), scene.time, takes_ms=1_000)
    decision = await scene.decide()
    assert said(decision) == (Step.DEFAULTS, Fallback.FEATURES_UNAVAILABLE, "v1")
    assert decision.feature_names == USECASE.feature_names
    assert values(decision)["card_transaction_count_24h"] == 0
    assert values(decision)["amount_cents"] == 5_000
    assert set(decision.feature_status.values()) == {"unavailable"}
    assert scene.model.rows[0][0].tolist() == decision.features


async def test_of_a_corrupt_state_alone_the_features_have_their_defaults() -> None:
    scene = Scene(usecase=laddered(unavailable=Step.DEFAULTS))
    scene.remember("terminal", "t1", PAST)
    scene.store.states[ViewKey(VIEWS["card"].name, "c1")] = b"FWT1 not a state"
    decision = await scene.decide()
    assert said(decision) == (Step.DEFAULTS, Fallback.FEATURES_UNAVAILABLE, "v1")
    assert values(decision)["terminal_transaction_count_24h"] == 3
    assert values(decision)["card_transaction_count_24h"] == 0


async def test_defaults_without_a_model_are_the_rules_business() -> None:
    scene = Scene(usecase=laddered(unavailable=Step.DEFAULTS))
    scene.reader = Slow(scene.store.reader(), scene.time, takes_ms=1_000)
    scene.lineup = Lineup()
    decision = await scene.decide()
    # The first thing that was amiss is told.
    assert said(decision) == (Step.RULE, Fallback.FEATURES_UNAVAILABLE, RULE)
    assert "card_transaction_count_24h" not in values(decision)


async def test_a_static_answer_can_be_an_action_whatever_its_costs() -> None:
    static = StaticAnswer(score=0.2, action="decline")
    scene = Scene(usecase=laddered(unavailable=Step.STATIC, no_model=Step.STATIC, static=static))
    scene.reader = Slow(scene.store.reader(), scene.time, takes_ms=1_000)
    decision = await scene.decide(payment(amount_cents=100))
    assert said(decision) == (Step.STATIC, Fallback.FEATURES_UNAVAILABLE, "static")
    assert (decision.score, decision.action) == (0.2, "decline")
    assert decision.reasons == ("features_unavailable", "static")


async def test_a_rule_that_fails_gives_way_to_the_static_answer() -> None:
    usecase = dataclasses.replace(
        laddered(static=StaticAnswer(0.3, "step_up")), fallback=RuleScore("broken", lambda _: 1 / 0)
    )
    scene = Scene(usecase=usecase)
    scene.lineup = Lineup(dataclasses.replace(scene.lineup.champion, scorer=Broken()))  # type: ignore[type-var]
    decision = await scene.decide()
    assert said(decision) == (Step.STATIC, Fallback.MODEL_UNAVAILABLE, "rule:broken")
    assert (decision.score, decision.action) == (0.3, "step_up")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"unavailable": Step.MODEL}, "cannot be shown features"),
        ({"no_model": Step.DEFAULTS}, "without a model"),
        ({"static": StaticAnswer(score=1.5)}, "no probability"),
    ],
)
def test_a_ladder_that_leads_nowhere_is_refused(words: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidDeclaration, match=message):
        laddered(**words)


def test_a_static_action_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidDeclaration, match="none of approve"):
        Scene(usecase=laddered(static=StaticAnswer(action="shrug"))).decider()
