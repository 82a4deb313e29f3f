"""Ranking in memory: what is shown, what is dropped and why, what is refused, what stays when things fail."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.contracts.decisions import Fallback, Step
from flywheel.contracts.events import from_us, iso_utc
from flywheel.kernel import catalog
from flywheel.kernel.attributes import AttributeRow
from flywheel.kernel.decision import Answered, DecisionRequest, Refused
from flywheel.kernel.decision.ranker import Ranker
from flywheel.kernel.decision.shortlist import Ranked
from flywheel.kernel.declaration import Ladder, UseCase
from flywheel.kernel.features import InvalidDeclaration
from flywheel.kernel.lineup import Lineup, LoadedModel
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ports import Answer, Question, Unavailable
from flywheel.kernel.ranking import EpsilonGreedy, Filter, Ranking, Unknown
from flywheel.kernel.subject import InvalidSubject
from flywheel.kernel.timing import Clock
from tests.ranking_declaration import COLUMNS, ITEMS, USERS, declared, item

AT_US = 1_700_000_000_000_000
DAY_US = 86_400_000_000


class FirstColumns:
    """Scores a row by the first column of its item, a little by that of its user, both from 0 to 1."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        self.rows.append(len(rows))
        scores: NDArray[np.float64] = np.maximum(rows[:, COLUMNS] * 0.9 + rows[:, 0] * 0.1, 0).astype(np.float64)
        return scores


class Broken:
    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:  # noqa: ARG002  the port's
        raise RuntimeError("no")


class Down:
    async def read(self, question: Question, timeout_s: float) -> Answer:  # noqa: ARG002  the port's
        raise Unavailable("down")

    async def close(self) -> None: ...


class Ears:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def features_unavailable(self, reason: str) -> None:
        self.heard.append(reason)

    def foreign_state(self, reason: str) -> None:
        self.heard.append(reason)

    def model_failed(self, version: str, reason: str) -> None:  # noqa: ARG002  the port's
        self.heard.append(reason)

    def unanswered(self, late: Answered, model_ms: float | None) -> None:  # noqa: ARG002  the port's
        self.heard.append(f"late: {late.model_version}")


class Shop:
    """A store with one user and items, whose first column is given, and a ranker on it."""

    def __init__(self, ranking: Ranking, stock: Sequence[float | None] = (0.2, 0.8, 0.5), **parts: Any) -> None:
        usecase = dataclasses.replace(declared(ranking), ladder=parts.pop("ladder", Ladder()))
        self.store = MemoryFeatureStore(compile_plan(usecase))
        self.store.put(USERS, [row("user-0", 1.0)])
        self.store.put(ITEMS, [row(item(number), value) for number, value in enumerate(stock)])
        self.scorer = parts.pop("scorer", FirstColumns())
        self.ears = Ears()
        self.ranker = ranker_of(usecase, parts.pop("reader", self.store.reader()), self.scorer, self.ears, **parts)

    async def rank(self, *candidates: str, **request: Any) -> Ranked:
        about = request.pop("subject", None) or subject()
        asked = DecisionRequest(about, candidates=candidates, request_id=request.pop("request_id", "r"), **request)
        (answer,) = await self.ranker.decide([asked])
        if isinstance(answer, Refused):
            raise answer.error
        return answer


def ranker_of(usecase: UseCase, reader: Any, scorer: Any, ears: Ears, **parts: Any) -> Ranker:
    ids = itertools.count()
    return Ranker(
        usecase,
        reader,
        lambda: Lineup(LoadedModel("v1", scorer)),
        clock=Clock(wall_us=lambda: AT_US, steady_s=lambda: 0.0),
        new_id=lambda: f"id-{next(ids)}",
        observer=ears,
        **parts,
    )


def row(name: str, first: float | None, as_of_us: int = AT_US - 1_000_000) -> AttributeRow:
    return AttributeRow((name,), as_of_us, (first, *(0.0,) * (COLUMNS - 1)))


def subject(**changes: Any) -> bytes:
    fields = {"event_id": "visit-1", "event_time": iso_utc(from_us(AT_US)), "user_id": "user-0", "page": 3}
    return orjson.dumps({name: value for name, value in (fields | changes).items() if value is not None})


async def test_the_best_are_shown_in_order_with_one_run_of_the_model() -> None:
    shop = Shop(Ranking("item_id", keep=2))
    ranked = await shop.rank(item(0), item(1), item(2))
    assert ranked.candidates == [item(1), item(2)]
    assert ranked.scores.tolist() == pytest.approx([0.82, 0.55])
    assert shop.scorer.rows == [3]
    assert ranked.dropped == {}
    assert (await shop.rank(item(0), item(1), item(2), keep=3)).candidates == [item(1), item(2), item(0)]


async def test_each_candidate_is_judged_as_it_would_be_alone() -> None:
    shop = Shop(Ranking("item_id"), np.random.default_rng(1).uniform(size=60).tolist())
    names = [item(number) for number in range(60)]
    together = await shop.rank(*names, keep=60)
    alone = {name: (await shop.rank(name)).scores[0] for name in names}
    assert dict(zip(together.candidates, together.scores.tolist(), strict=True)) == alone


async def test_rankings_that_come_together_are_answered_each_on_its_own() -> None:
    shop = Shop(Ranking("item_id", keep=2))
    asked = [
        DecisionRequest(subject(), candidates=[item(0), item(2)]),
        DecisionRequest(subject(), candidates=[item(1), item(1)]),
        DecisionRequest(subject(), candidates=[item(1)]),
    ]
    found = await shop.ranker.decide(asked)
    shown = [answer.candidates if isinstance(answer, Ranked) else None for answer in found]
    assert shown == [[item(2), item(0)], None, [item(1)]]


async def test_a_record_tells_what_was_shown_and_reads_as_decisions() -> None:
    shop = Shop(Ranking("item_id", keep=2, filters=(Filter("few", "item_i00", at_least=0.3),)))
    ranked = await shop.rank(item(0), "nobody", item(1), item(2))
    logged = ranked.logged()
    assert logged.shown == (item(1), item(2))
    assert (logged.offered, logged.dropped) == (4, {"few": 2})
    assert list(logged.propensities) == [1, 1]
    assert ranked.statuses["item_profile"] == {"fresh": 3, "missing": 1}
    first, second = logged.decisions()
    assert (first.event_id, first.action, first.score) == (f"visit-1:{item(1)}", "show", logged.scores[0])
    values = dict(zip(second.feature_names, second.features, strict=True))
    assert (values["user_u00"], values["item_i00"]) == (1.0, 0.5)
    assert second.feature_age_ms == {"user_profile": 1000, "item_profile": 1000}
    assert second.feature_status == {"user_profile": "fresh", "item_profile": "fresh"}


async def test_what_is_not_known_of_a_candidate_is_its_default_or_drops_it_as_declared() -> None:
    keeping = await Shop(Ranking("item_id")).rank(item(0), "nobody")
    assert keeping.candidates == [item(0), "nobody"]
    (age,) = {ages[1] for ages in keeping.logged().ages_ms[1:]}
    assert age is None
    dropping = await Shop(Ranking("item_id", unknown=Unknown.DROP)).rank(item(0), "nobody")
    assert (dropping.candidates, dropping.dropped) == ([item(0)], {"unknown": 1})


async def test_an_unknown_user_drops_nobody() -> None:
    shop = Shop(Ranking("item_id", unknown=Unknown.DROP))
    (ranked,) = await shop.ranker.decide([DecisionRequest(subject(user_id="new"), candidates=[item(0)])])
    assert isinstance(ranked, Ranked)
    assert ranked.candidates == [item(0)]


async def test_a_candidate_that_cannot_be_read_is_dropped_and_the_others_are_ranked() -> None:
    shop = Shop(Ranking("item_id"))
    shop.store.attributes[ITEMS.entity].put("shop_item_profile", "item_profile_i05", {"item_id": item(1)}, b"?")
    ranked = await shop.rank(item(0), item(1), item(2))
    assert (ranked.candidates, ranked.dropped) == ([item(2), item(0)], {"unreadable": 1})
    assert (ranked.fallback, ranked.step) == (Fallback.NONE, Step.MODEL)
    assert shop.ears.heard == ["what is stored of item_profile is no attribute"]
    assert shop.scorer.rows == [2]


async def test_stale_items_are_ranked_by_their_defaults() -> None:
    shop = Shop(Ranking("item_id"))
    shop.store.put(ITEMS, [row(item(1), 0.9, AT_US - 31 * DAY_US)])
    ranked = await shop.rank(item(1), item(0))
    assert ranked.statuses["item_profile"] == {"fresh": 1, "stale": 1}
    assert (ranked.candidates, ranked.fallback) == ([item(0), item(1)], Fallback.NONE)
    assert ranked.scores[1] == 0


async def test_a_stale_item_is_kept_from_the_model_where_the_ladder_says_so_and_decides_for_no_other() -> None:
    shop = Shop(Ranking("item_id"), ladder=Ladder(stale=Step.RULE))
    shop.store.put(ITEMS, [row(item(1), 0.9, AT_US - 31 * DAY_US)])
    ranked = await shop.rank(item(1), item(0))
    assert (ranked.candidates, ranked.dropped) == ([item(0)], {"stale": 1})
    assert (ranked.fallback, ranked.step) == (Fallback.NONE, Step.MODEL)
    all_stale = await shop.rank(item(1))
    assert (all_stale.candidates, all_stale.dropped) == ([item(1)], {})
    assert (all_stale.fallback, all_stale.step) == (Fallback.FEATURES_STALE, Step.RULE)


async def test_an_unreadable_candidate_is_dropped_beside_a_stale_one_too() -> None:
    shop = Shop(Ranking("item_id"), ladder=Ladder(stale=Step.DEFAULTS))
    shop.store.put(ITEMS, [row(item(2), 0.9, AT_US - 31 * DAY_US)])
    shop.store.attributes[ITEMS.entity].put("shop_item_profile", "item_profile_i05", {"item_id": item(1)}, b"?")
    ranked = await shop.rank(item(0), item(1), item(2))
    assert (ranked.candidates, ranked.dropped) == ([item(0)], {"unreadable": 1, "stale": 1})


async def test_of_two_steps_that_are_declared_the_lower_one_counts() -> None:
    shop = Shop(Ranking("item_id"), ladder=Ladder(stale=Step.RULE, unavailable=Step.DEFAULTS))
    shop.store.put(USERS, [row("user-0", 1.0, AT_US - 31 * DAY_US)])
    shop.store.attributes[ITEMS.entity].put("shop_item_profile", "item_profile_i05", {"item_id": item(1)}, b"?")
    ranked = await shop.rank(item(1))
    assert (ranked.fallback, ranked.step) == (Fallback.FEATURES_UNAVAILABLE, Step.RULE)


async def test_a_ranking_of_which_nothing_is_left_names_the_model_of_its_arm() -> None:
    shop = Shop(Ranking("item_id", filters=(Filter("none", "item_i00", at_least=9),)))
    ranked = await shop.rank(item(0), item(1))
    assert (ranked.candidates, ranked.dropped) == ([], {"none": 2})
    assert (ranked.model_version, ranked.step) == ("v1", Step.MODEL)
    assert shop.scorer.rows == []


@pytest.mark.parametrize("strict", [False, True])
async def test_without_features_the_given_order_stays_and_a_strict_filter_lets_nobody_pass(strict: bool) -> None:
    filters = (Filter("adult", "item_i00", at_most=0.5, strict=strict),)
    shop = Shop(Ranking("item_id", keep=2, filters=filters, exploration=EpsilonGreedy(1)), reader=Down())
    ranked = await shop.rank(item(2), item(1), item(0))
    assert ranked.candidates == ([] if strict else [item(2), item(1)])
    assert ranked.dropped == ({"adult": 3} if strict else {})
    assert (ranked.fallback, ranked.step) == (Fallback.FEATURES_UNAVAILABLE, Step.RULE)
    assert ranked.model_version == "rule:nothing_known"
    assert ranked.propensities.tolist() == ([] if strict else [1, 1])
    assert strict or ranked.logged().feature_names == ()
    assert len(list(ranked.logged().decisions())) == len(ranked.candidates)


async def test_without_a_model_filters_hold_and_the_given_order_stays() -> None:
    shop = Shop(Ranking("item_id", filters=(Filter("few", "item_i00", at_least=0.3),)), scorer=Broken())
    ranked = await shop.rank(item(0), item(2), item(1))
    assert ranked.candidates == [item(2), item(1)]
    assert ranked.fallback is Fallback.MODEL_UNAVAILABLE
    assert ranked.logged().feature_names == declared().feature_names


async def test_callers_who_give_every_request_the_same_id_try_out_what_the_propensities_say() -> None:
    shop = Shop(Ranking("item_id", exploration=EpsilonGreedy(0.5), keep=1), [0.9, *[0.1] * 9])
    names = [item(number) for number in range(10)]
    ranked = [await shop.rank(*names, subject=subject(event_id=f"visit-{number}")) for number in range(200)]
    share = sum(each.candidates == [item(0)] for each in ranked) / 200
    expected = next(each for each in ranked if each.candidates == [item(0)]).propensities[0]
    assert share == pytest.approx(expected, abs=0.12)


async def test_what_is_tried_out_follows_from_the_ids_of_request_and_event() -> None:
    shop = Shop(Ranking("item_id", exploration=EpsilonGreedy(0.5)), np.linspace(0, 1, 30).tolist())
    names = [item(number) for number in range(30)]
    first, again, other = [await shop.rank(*names, request_id=request_id) for request_id in ("a", "a", "b")]
    assert first.candidates == again.candidates != other.candidates
    assert first.logged().propensities == again.logged().propensities
    assert first.logged().propensities[0] < 1


@pytest.mark.parametrize(
    ("candidates", "changes", "field", "reason"),
    [
        ([], {}, "candidates", "there are 0"),
        ([item(number) for number in range(5)], {}, "candidates", "there are 5"),
        ([item(0), item(1), item(0)], {}, "candidates[2]", "is there already"),
        ([item(0), "no spaces"], {}, "candidates[1]", "match pattern"),
        ([item(0)], {"item_id": "x"}, "item_id", "is what the candidates are"),
        ([item(0)], {"page": None}, "page", "required"),
        ([item(0)], {"event_id": "e" * 60}, "event_id", "leaves no room"),
    ],
)
async def test_what_is_wrong_is_refused_by_field_reason_and_way_out(
    candidates: list[str], changes: dict[str, Any], field: str, reason: str
) -> None:
    shop = Shop(Ranking("item_id"), max_candidates=4)
    (answer,) = await shop.ranker.decide([DecisionRequest(subject(**changes), candidates=candidates)])
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, InvalidSubject)
    assert answer.error.field == field
    assert reason in answer.error.reason
    assert answer.error.hint


async def test_a_subject_that_is_no_json_is_told_so() -> None:
    shop = Shop(Ranking("item_id"))
    for raw in (b"{", b"[1]", b"7"):
        (answer,) = await shop.ranker.decide([DecisionRequest(raw, candidates=[item(0)])])
        assert isinstance(answer, Refused)
        assert isinstance(answer.error, InvalidSubject)


def test_a_use_case_that_does_not_rank_has_no_ranker() -> None:
    with pytest.raises(InvalidDeclaration, match="does not rank"):
        ranker_of(catalog.load("fraud"), Down(), FirstColumns(), Ears())
