"""The decision pipeline on in-memory parts: exact features, honest statuses, every fallback, deadlines."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from flywheel.contracts.decisions import MODEL_RUN, DecisionLogged, FeatureStatus, Step
from flywheel.contracts.events import from_us, to_us
from flywheel.contracts.models import Role
from flywheel.kernel.decision import Decided
from flywheel.kernel.declaration import RuleScore
from flywheel.kernel.durations import HOUR_US
from flywheel.kernel.lineup import Lineup, LoadedModel
from flywheel.kernel.ports import Answer, Lane, Question, StoreProgress, ViewKey
from flywheel.kernel.subject import InvalidSubject
from flywheel.kernel.timing import OutOfTime
from tests.decision_scene import NOW_US, Broken, Fixed, Scene, Slow, Ticking, values
from tests.serving_parts import AT, USECASE, VIEWS, Past, payment

CARD = VIEWS["card"].name
RULE = "rule:amount_above_220"

PAST = [Past("tx1", 120, 1_000), Past("tx2", 3_700, 3_000)]


async def test_the_own_payment_is_counted_once_whether_or_not_it_has_arrived() -> None:
    scene = Scene()
    scene.remember("card", "c1", PAST)
    before = values(await scene.decide())
    scene.remember("card", "c1", [*PAST, Past("tx-own", 0, 5_000)])
    after = values(await scene.decide())
    for found in (before, after):
        assert found["card_transaction_count_1m"] == 1
        assert found["card_transaction_count_1h"] == 2
        assert found["card_transaction_count_24h"] == 3
        assert found["card_transaction_amount_cents_sum_24h"] == 9_000
        assert found["card_transaction_amount_cents_mean_24h"] == 3_000
        assert found["card_transaction_amount_cents_max_7d"] == 5_000
        assert found["terminal_transaction_count_1h"] == 1
    assert before == after


async def test_the_model_sees_the_logged_features_in_the_declared_order() -> None:
    scene = Scene(score=0.25)
    scene.remember("card", "c1", PAST)
    decision = await scene.decide()
    assert decision.feature_names == USECASE.feature_names
    (row,) = scene.model.rows
    assert row.shape == (1, len(USECASE.feature_names))
    assert row[0].tolist() == list(decision.features)
    assert values(decision)["amount_cents"] == 5_000
    assert (decision.score, decision.model_version, decision.fallback) == (0.25, "v1", "none")
    assert (decision.request_id, decision.decision_id) == ("0", "1")
    assert (decision.unit, decision.value, decision.event_id) == ("c1", 5_000, "tx-own")


@pytest.mark.parametrize(
    ("progress", "status", "lag_ms"),
    [
        (StoreProgress(NOW_US - 1_500_000, NOW_US), FeatureStatus.FRESH, 1_500),
        (StoreProgress(NOW_US - 10_000_000, NOW_US), FeatureStatus.FRESH, 10_000),
        (StoreProgress(NOW_US - 10_000_001, NOW_US), FeatureStatus.STALE, 10_000.001),
        (StoreProgress(NOW_US + 5_000, NOW_US), FeatureStatus.FRESH, 0),
    ],
)
async def test_features_are_stale_beyond_the_declared_freshness(
    progress: StoreProgress, status: FeatureStatus, lag_ms: float
) -> None:
    scene = Scene()
    scene.remember("card", "c1", PAST)
    scene.store.progress = {Lane.EDGE: progress}
    decision = await scene.decide()
    assert decision.feature_status == {"card": status, "terminal": FeatureStatus.MISSING}
    assert decision.feature_lag_ms == lag_ms
    assert decision.fallback == "none"


async def test_of_a_store_that_knows_not_how_far_it_is_what_is_there_is_stale_and_what_is_not_is_no_sign() -> None:
    scene = Scene()
    scene.store.progress = {}
    scene.remember("card", "c1", PAST)
    decision = await scene.decide()
    assert decision.feature_status == {"card": FeatureStatus.STALE, "terminal": FeatureStatus.UNAVAILABLE}
    assert (decision.fallback, decision.feature_lag_ms) == ("features_unavailable", -1)
    scene.remember("terminal", "t1", PAST)
    decision = await scene.decide()
    assert set(decision.feature_status.values()) == {FeatureStatus.STALE}
    assert decision.fallback == "none"


@pytest.mark.parametrize(
    ("behind_h", "world", "card", "terminal"),
    [
        (24, USECASE.world, "fresh", "missing"),
        (24.1, USECASE.world, "fresh", "stale"),
        (24.1, "", "fresh", "stale"),
        (-24, USECASE.world, "fresh", "missing"),
        (-24.1, USECASE.world, "stale", "stale"),
        (-24.1, "", "fresh", "missing"),
    ],
)
async def test_what_is_asked_about_a_time_that_is_not_the_streams_is_stale(
    behind_h: float, world: str, card: str, terminal: str
) -> None:
    scene = Scene(usecase=dataclasses.replace(USECASE, world=world))
    # Of the card something is stored, of the terminal nothing: so late nobody knows whether that is a sign.
    scene.remember("card", "c1", PAST)
    newest_us = to_us(AT) + int(behind_h * HOUR_US)
    scene.store.progress = {Lane.EDGE: StoreProgress(NOW_US, NOW_US, newest_us)}
    decision = await scene.decide()
    assert decision.feature_status == {"card": card, "terminal": terminal}


async def test_an_absent_store_leaves_the_rule_and_what_the_request_says() -> None:
    scene = Scene()
    scene.reader = Slow(scene.store.reader(), scene.time, takes_ms=1_000)
    decision = await scene.decide(payment(amount_cents=30_000))
    assert decision.fallback == "features_unavailable"
    assert decision.feature_status == {"card": "unavailable", "terminal": "unavailable"}
    assert decision.feature_lag_ms == -1
    assert values(decision) == {"amount_cents": 30_000, "hour_of_day": 12, "is_weekend": 0}
    assert (decision.score, decision.model_version) == (0.6, RULE)
    assert decision.reasons == ("features_unavailable", "expected_cost_by_rule", "amount_high")
    assert scene.model.rows == []
    assert scene.observer.notes == ["features_unavailable: too slow"]


async def test_a_corrupt_state_is_unavailable_and_the_rest_is_kept() -> None:
    scene = Scene()
    scene.remember("terminal", "t1", PAST)
    scene.store.states[ViewKey(CARD, "c1")] = b"FWT1 not a state"
    decision = await scene.decide()
    assert decision.fallback == "features_unavailable"
    assert decision.feature_status == {"card": "unavailable", "terminal": "fresh"}
    assert values(decision)["terminal_transaction_count_24h"] == 3
    assert not any(name.startswith("card_") for name in decision.feature_names)
    assert "amount_vs_card_mean_30d" not in decision.feature_names
    assert [note.partition(":")[0] for note in scene.observer.notes] == ["foreign_state"]


async def test_without_a_model_the_rule_answers_on_all_features() -> None:
    scene = Scene()
    scene.lineup = Lineup()
    decision = await scene.decide()
    assert (decision.fallback, decision.model_version, decision.arm) == ("model_unavailable", RULE, "champion")
    assert decision.score == 0.005
    assert decision.feature_names == USECASE.feature_names


@pytest.mark.parametrize("scorer", [Broken(), Fixed(math.nan), Fixed(1.5), Fixed(-0.1)])
async def test_a_model_without_a_probability_is_replaced_by_the_rule(scorer: Fixed | Broken) -> None:
    scene = Scene()
    scene.lineup = Lineup(LoadedModel("v9", scorer))
    decision = await scene.decide()
    assert (decision.fallback, decision.score) == ("model_unavailable", 0.005)
    assert scene.observer.notes[0].startswith("model_failed: v9")


@pytest.mark.parametrize("score", [lambda _: 1 / 0, lambda _: math.nan])
async def test_a_rule_that_fails_knows_nothing_and_still_answers(score: object) -> None:
    broken = dataclasses.replace(USECASE, fallback=RuleScore("broken", score))  # type: ignore[arg-type]  # on purpose
    scene = Scene(usecase=broken)
    scene.lineup = Lineup()
    decision = await scene.decide()
    assert (decision.score, decision.model_version, decision.step) == (0.5, "rule:broken", Step.STATIC)


async def test_stages_get_their_declared_share_and_an_impatient_caller_the_same_one_scaled() -> None:
    scene = Scene()
    scene.reader = slow = Slow(scene.store.reader(), scene.time, takes_ms=1)
    await scene.decide()
    await scene.decide(patience_ms=500)
    await scene.decide(patience_ms=25)
    assert slow.timeouts_ms == pytest.approx([20, 20, 10])


async def test_features_that_take_too_long_leave_time_for_an_answer() -> None:
    scene = Scene()
    scene.reader = Slow(scene.store.reader(), scene.time, takes_ms=1_000)
    decision = await scene.decide()
    assert decision.stage_ms["features"] == pytest.approx(20)
    assert decision.stage_ms["total"] == pytest.approx(20)


async def test_the_rule_answers_when_the_model_has_no_time_left() -> None:
    class Stalled(Slow):
        async def read(self, question: Question, timeout_s: float) -> Answer:
            self._time.now_s += self._takes_ms / 1000
            return await self._inner.read(question, timeout_s)

    scene = Scene()
    scene.reader = Stalled(scene.store.reader(), scene.time, takes_ms=40)
    decision = await scene.decide()
    assert (decision.fallback, decision.model_version) == ("deadline", RULE)
    assert decision.feature_names == USECASE.feature_names
    scene.reader = Stalled(scene.store.reader(), scene.time, takes_ms=51)
    with pytest.raises(OutOfTime, match=r"51\.0 ms"):
        await scene.decide()


async def test_an_answer_that_comes_too_late_is_told_with_its_arm_and_what_its_model_took() -> None:
    class Slowly(Fixed):
        def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
            scene.time.now_s += 0.06
            return super().score(rows)

    scene = Scene()
    scene.lineup = Lineup(LoadedModel("v1", Fixed(0.1)), canary=LoadedModel("v2", Slowly(0.1)), canary_share=1.0)
    with pytest.raises(OutOfTime):
        await scene.decide()
    (note,) = scene.observer.notes
    assert note.startswith("late: canary v2 60.0")


@pytest.mark.parametrize("patience_ms", [0, -3])
async def test_an_expired_call_is_refused_before_any_work(patience_ms: float) -> None:
    scene = Scene()
    scene.reader = slow = Slow(scene.store.reader(), scene.time, takes_ms=0)
    with pytest.raises(OutOfTime):
        await scene.decide(patience_ms=patience_ms)
    assert slow.timeouts_ms == []


async def test_a_card_always_meets_the_same_arm_and_the_split_is_as_declared() -> None:
    scene = Scene()
    champion, challenger = LoadedModel("v1", Fixed(0.1)), LoadedModel("v2", Fixed(0.9))
    scene.lineup = Lineup(champion, challenger, challenger_share=0.2, salt="s")
    cards = [f"c{n}" for n in range(400)]
    first = [await scene.decide(payment(card_id=card)) for card in cards]
    again = [await scene.decide(payment(card_id=card, amount_cents=7)) for card in cards]
    assert [d.arm for d in first] == [d.arm for d in again]
    assert {(d.arm, d.model_version) for d in first} == {(Role.CHAMPION, "v1"), (Role.CHALLENGER, "v2")}
    # Four standard errors of a binomial share around 0.2.
    assert abs(sum(d.arm == Role.CHALLENGER for d in first) / 400 - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 400)


async def test_the_arm_is_kept_when_the_rule_answers() -> None:
    scene = Scene()
    model = LoadedModel("v1", Fixed(0.1))
    scene.lineup = Lineup(model, model, challenger_share=1.0, salt="s")
    scene.reader = Slow(scene.store.reader(), scene.time, takes_ms=1_000)
    decision = await scene.decide()
    assert (decision.arm, decision.model_version) == (Role.CHALLENGER, RULE)


@pytest.mark.parametrize(
    ("raw", "field", "hint"),
    [
        (payment(amount_cents=0), "amount_cents", "whole number"),
        (payment(amount_cents=1.5), "amount_cents", "whole number"),
        (payment().replace(b"5000", b"1" + b"0" * 30), "amount_cents", "whole number"),
        (payment(card_id=""), "card_id", "letters"),
        (payment(card_id="drop table;"), "card_id", "letters"),
        (payment(terminal_id=None), "terminal_id", "letters"),
        (payment(pin="1234"), "pin", "the fields of a transaction are event_id"),
        (payment(event_time="2018-06-01T12:00:00"), "event_time", "Z"),
        (payment(event_time=1_527_854_400), "event_time", "form"),
        (payment(event_time="2100-01-01T00:00:00Z"), "event_time", "clock"),
        (payment(event_time="1969-12-31T23:59:59Z"), "event_time", "clock"),
        (b"", "", "send a JSON object with the fields event_id"),
        (b"[]", "", "send a JSON object"),
        (b'{"amount_cents": NaN', "", "send a JSON object"),
    ],
)
async def test_a_wrong_subject_is_refused_naming_field_reason_and_way_out(raw: bytes, field: str, hint: str) -> None:
    with pytest.raises(InvalidSubject) as caught:
        await Scene().decide(raw)
    assert caught.value.field == field
    assert caught.value.reason
    assert hint in caught.value.hint
    assert str(caught.value).startswith(f"{field or 'subject'}: ")


async def test_a_decision_survives_the_wire() -> None:
    scene = Scene()
    scene.remember("card", "c1", PAST)
    decision = await scene.decide()
    logged = DecisionLogged.model_validate_json(decision.to_bytes())
    for name in ("score", "action", "value", "reasons", "feature_names", "feature_status", "stage_ms", "step"):
        assert getattr(logged, name) == getattr(decision, name)
    assert list(logged.features) == decision.features
    assert (logged.event_time, logged.decided_at) == (AT, from_us(NOW_US))
    assert (logged.usecase, logged.event_id, logged.unit, logged.arm) == ("fraud", "tx-own", "c1", "champion")
    assert (logged.step, logged.propensity, logged.feature_lag_ms) == (Step.MODEL, 1.0, 1_500)


async def test_values_that_json_has_no_words_for_survive_the_wire() -> None:
    odd = (math.nan, math.inf, -math.inf, 0.5)
    decision = await Scene().decide()
    decision.features[:4] = odd
    decision.hydrated.rows[0, :4] = odd
    found = decision.logged().features
    assert math.isnan(found[0])
    assert found[1:4] == odd[1:]


async def test_the_run_of_each_model_is_told_where_several_ran() -> None:
    class Taking(Fixed):
        def __init__(self, score: float, takes_ms: float, time: Ticking) -> None:
            super().__init__(score)
            self._takes_ms = takes_ms
            self._time = time

        def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
            self._time.now_s += self._takes_ms / 1000
            return super().score(rows)

    scene = Scene()
    champion = LoadedModel("v1", Taking(0.1, 1.0, scene.time))
    canary = LoadedModel("v2", Taking(0.1, 4.0, scene.time))
    scene.lineup = Lineup(champion, salt="s", canary=canary, canary_share=0.5)
    requests = [scene.request(payment(card_id=f"c{number}", event_id=f"tx{number}")) for number in range(8)]
    decided = [one for one in await scene.decide_all(requests) if isinstance(one, Decided)]
    run_ms = {one.model_version: one.stage_ms[MODEL_RUN] for one in decided}
    assert run_ms == {"v1": pytest.approx(1.0), "v2": pytest.approx(4.0)}
    assert {round(one.stage_ms["model"]) for one in decided} == {5}
    (alone,) = await scene.decide_all(requests[:1])
    assert isinstance(alone, Decided)
    assert MODEL_RUN not in alone.stage_ms
