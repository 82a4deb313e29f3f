"""Rankings by gRPC, from Redis, by the deployed model, into the decision log."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis
from prometheus_client import REGISTRY

from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.memory_decision_log import MemoryDecisionLog
from flywheel.adapters.redis_store import RedisFeatureReader, RedisFeatureWriter
from flywheel.contracts.proto.ranking_pb2 import RankRequest, RankResponse
from flywheel.contracts.proto.ranking_pb2_grpc import RankingsStub
from flywheel.contracts.rankings import RankingLogged, decisions_of
from flywheel.kernel.declaration import LatencyBudget, UseCase
from flywheel.kernel.ranking import EpsilonGreedy, Filter, Ranking
from services.serving.bootstrap import build
from services.serving.settings import ServingSettings
from tests.ranking_declaration import ITEMS, PLAN, USECASE, USERS, declared, item, rows
from tests.ranking_parts import AT_US, context, deploy_first_column

pytestmark = pytest.mark.engine

ROWS = rows("item", 300, AT_US - 1_000_000)
FIRST = {row.key[0]: row.values[0] or 0.0 for row in ROWS}


class Caller:
    def __init__(self, channel: grpc.aio.Channel, log: MemoryDecisionLog) -> None:
        self._rank = RankingsStub(channel).Rank
        self._log = log

    async def rank(self, candidates: list[str], **other: Any) -> RankResponse:
        request = RankRequest(**{"usecase": USECASE.name, "subject": context(), "candidates": candidates} | other)
        answer: RankResponse = await self._rank(request, timeout=5)
        return answer

    def logged(self) -> list[RankingLogged]:
        return [RankingLogged.model_validate_json(value) for _, value in self._log.records]


@pytest.fixture
def url(redis_server: str) -> str:
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
    writer = RedisFeatureWriter(redis_server, PLAN)
    writer.put(USERS, rows("user", 1, AT_US - 1_000_000))
    writer.put(ITEMS, ROWS)
    writer.close()
    return redis_server


@asynccontextmanager
async def serving(tmp_path: Path, url: str, usecase: UseCase = USECASE) -> AsyncIterator[Caller]:
    store = FileModelStore(tmp_path / "models")
    deploy_first_column(store)
    settings = ServingSettings(
        _env_file=None,
        data_dir=tmp_path,
        serving_address="127.0.0.1:0",
        serving_rest_address="",
        serving_metrics_port=0,
        serving_max_candidates=250,
    )
    log = MemoryDecisionLog(on_acknowledged=lambda: None, on_lost=lambda _: None)
    # A machine that runs other tests as well may give the process its turn late.
    patient = dataclasses.replace(usecase, budget=LatencyBudget(total_ms=5_000, features_ms=2_000, model_ms=2_000))
    server = build(settings, patient, reader=RedisFeatureReader(url, PLAN), store=store, log=log)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Caller(channel, log)
    finally:
        await server.stop()


async def refusal(call: Awaitable[RankResponse]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), str(caught.value.details())


async def test_two_hundred_candidates_are_ranked_by_the_deployed_model(tmp_path: Path, url: str) -> None:
    names = [item(number) for number in range(199)]
    async with serving(tmp_path, url) as caller:
        answer = await caller.rank([*names, "nobody"], request_id="r1", keep=30)
        assert [each.candidate for each in answer.ranked] == sorted(names, key=lambda n: -FIRST[n])[:30]
        assert (answer.model_version, answer.fallback, answer.step, answer.arm) == ("v1", "none", "model", "champion")
        assert dict(answer.feature_status["item_profile"].candidates) == {"fresh": 199, "missing": 1}
        assert answer.ranked[0].event_id == f"visit-1:{answer.ranked[0].candidate}"
        (logged,) = caller.logged()
    assert (logged.request_id, logged.decision_id, logged.offered) == ("r1", answer.decision_id, 200)
    assert list(logged.shown) == [each.candidate for each in answer.ranked]
    assert [each.score for each in decisions_of(logged.to_bytes(), ranks=True)] == [e.score for e in answer.ranked]


async def test_rankings_asked_for_together_belong_each_to_its_request(tmp_path: Path, url: str) -> None:
    async with serving(tmp_path, url) as caller:
        sets = [[item((start + step) % 300) for step in range(20)] for start in range(40)]
        few = asyncio.Semaphore(4)

        async def one(number: int, names: list[str]) -> RankResponse:
            async with few:
                return await caller.rank(names, request_id=f"r{number}")

        answers = await asyncio.gather(*(one(number, names) for number, names in enumerate(sets)))
    for number, (names, answer) in enumerate(zip(sets, answers, strict=True)):
        assert answer.request_id == f"r{number}"
        assert [each.candidate for each in answer.ranked] == sorted(names, key=lambda n: -FIRST[n])


async def test_what_is_wrong_is_named_with_a_way_out(tmp_path: Path, url: str) -> None:
    async with serving(tmp_path, url) as caller:
        many = [item(number) for number in range(251)]
        for candidates, other, words in (
            (many, {}, "candidates: there are 251; send 1 to 250"),
            ([item(1), item(1)], {}, "candidates[1]: is there already; send each one once"),
            ([item(1)], {"subject": context(item_id="x")}, "item_id: is what the candidates are; leave it out"),
            ([item(1)], {"subject": context(page=None)}, "page: field required"),
        ):
            code, details = await refusal(caller.rank(candidates, **other))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert details.startswith(words)
        assert (await refusal(caller.rank([item(1)], usecase="fraud")))[0] is grpc.StatusCode.NOT_FOUND
        assert caller.logged() == []


async def test_filters_and_chance_are_told_and_can_be_drawn_again(tmp_path: Path, url: str) -> None:
    ranking = Ranking("item_id", 10, filters=(Filter("poor", "item_i01", at_least=0),), exploration=EpsilonGreedy(0.3))
    poor = sum((row.values[1] or 0) < 0 for row in ROWS[:100])
    async with serving(tmp_path, url, declared(ranking)) as caller:
        names = [item(number) for number in range(100)]
        first, again = [await caller.rank(names, request_id="draw-1") for _ in range(2)]
    assert dict(first.dropped) == {"poor": poor}
    assert first.ranked == again.ranked
    assert all(0 < each.propensity < 1 for each in first.ranked)
    dropped = {"usecase": USECASE.name, "reason": "poor"}
    assert REGISTRY.get_sample_value("flywheel_serving_ranking_dropped_candidates_total", dropped) == 2 * poor


async def test_cached_items_are_not_read_again_and_say_their_age(tmp_path: Path, url: str) -> None:
    def looked(outcome: str) -> float:
        labels = {"usecase": USECASE.name, "entity": "item", "outcome": outcome}
        return REGISTRY.get_sample_value("flywheel_serving_cached_rows_total", labels) or 0

    async with serving(tmp_path, url, declared(cached_for="1m")) as caller:
        before = looked("hit"), looked("miss")
        first = await caller.rank([item(1), item(2)])
        writer = RedisFeatureWriter(url, PLAN)
        writer.put(ITEMS, rows("item", 3, AT_US, seed=1))
        writer.close()
        again = await caller.rank([item(2), item(1), item(3)])
        assert (looked("hit") - before[0], looked("miss") - before[1]) == (2, 3)
        scores = {each.candidate: each.score for each in again.ranked}
        assert {each.candidate: each.score for each in first.ranked}.items() <= scores.items()
        assert {ages[1] for ages in caller.logged()[1].ages_ms} == {1000}
