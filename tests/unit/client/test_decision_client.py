"""The client comes again when serving says so, a few times, and not at all while most of its requests are refused."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from itertools import pairwise

import grpc
import pytest

from flywheel.client.decision_client import DecisionClient
from flywheel.client.errors import ClientError, ServingUnreachable
from flywheel.contracts.proto.decision_pb2 import (
    DecideBatchRequest,
    DecideBatchResponse,
    DecideOutcome,
    DecideRequest,
    DecideResponse,
)
from flywheel.contracts.proto.decision_pb2_grpc import add_DecisionsServicer_to_server
from flywheel.contracts.proto.ranking_pb2 import RankedCandidate, RankRequest, RankResponse
from flywheel.contracts.proto.ranking_pb2_grpc import add_RankingsServicer_to_server

PUSHBACK_MS = 120


class Serving:
    """Refuses as many requests as it is told to, then answers."""

    def __init__(self) -> None:
        self.refuses = 0
        self.status = grpc.StatusCode.RESOURCE_EXHAUSTED
        self.asked_s: list[float] = []
        self.metadata: dict[str, str | bytes] = {}

    async def Decide(self, request: DecideRequest, context: grpc.aio.ServicerContext) -> DecideResponse:
        self.asked_s.append(time.monotonic())
        self.metadata = dict(context.invocation_metadata() or ())
        if len(self.asked_s) <= self.refuses:
            trailers = (("grpc-retry-pushback-ms", str(PUSHBACK_MS)),)
            await context.abort(self.status, "overloaded", trailing_metadata=trailers)
        return DecideResponse(request_id=request.request_id)

    async def DecideBatch(self, request: DecideBatchRequest, _: grpc.aio.ServicerContext) -> DecideBatchResponse:
        ids = [f"{request.request_id}:{subject.decode()}" for subject in request.subjects]
        decided = [DecideResponse(request_id=request_id) for request_id in ids]
        return DecideBatchResponse(outcomes=[DecideOutcome(decision=decision) for decision in decided])

    async def Rank(self, request: RankRequest, context: grpc.aio.ServicerContext) -> RankResponse:
        await self.Decide(DecideRequest(), context)
        shown = sorted(request.candidates)[: request.keep]
        return RankResponse(
            request_id=request.request_id, ranked=[RankedCandidate(candidate=candidate) for candidate in shown]
        )

    def __getattr__(self, name: str) -> object:
        if name[:1].isupper():
            return self.Decide
        raise AttributeError(name)


@pytest.fixture
async def serving() -> AsyncIterator[tuple[Serving, DecisionClient]]:
    servicer, server = Serving(), grpc.aio.server()
    add_DecisionsServicer_to_server(servicer, server)
    add_RankingsServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = DecisionClient(f"127.0.0.1:{port}", timeout_s=5)
    yield servicer, client
    await client.close()
    await server.stop(None)


async def test_a_refused_request_comes_again_when_serving_says_so(serving: tuple[Serving, DecisionClient]) -> None:
    servicer, client = serving
    servicer.refuses = 2
    assert (await client.decide("fraud", {}, "r1")).request_id == "r1"
    pauses_s = [after - before for before, after in pairwise(servicer.asked_s)]
    assert len(pauses_s) == 2
    assert all(0.9 * PUSHBACK_MS / 1000 <= pause_s <= 2 for pause_s in pauses_s)


async def test_it_comes_three_times_at_most(serving: tuple[Serving, DecisionClient]) -> None:
    servicer, client = serving
    servicer.refuses = 100
    with pytest.raises(ServingUnreachable, match="RESOURCE_EXHAUSTED: overloaded"):
        await client.decide("fraud", {})
    assert len(servicer.asked_s) == 3


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, r"refuses the request at 127.* it has too much to do; ask later$"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, r"gave no answer within 5 s at .* is the stack up\?"),
        (grpc.StatusCode.INTERNAL, r"failed at .* its log says why"),
        (grpc.StatusCode.UNAVAILABLE, r"does not answer at .* is the stack up\?"),
    ],
)
async def test_what_is_said_of_an_answer_that_did_not_come_is_true(
    serving: tuple[Serving, DecisionClient], status: grpc.StatusCode, said: str
) -> None:
    servicer, client = serving
    servicer.refuses, servicer.status = 100, status
    with pytest.raises(ServingUnreachable, match=said):
        await client.decide("fraud", {})


async def test_while_most_are_refused_none_comes_again(serving: tuple[Serving, DecisionClient]) -> None:
    servicer, client = serving
    servicer.refuses = 1_000
    for _ in range(10):
        with pytest.raises(ServingUnreachable):
            await client.decide("fraud", {})
    # The first few are tried again until half of the ten tokens are spent; then each request is asked once.
    assert 10 <= len(servicer.asked_s) <= 16


async def test_what_may_have_been_decided_is_not_asked_again(serving: tuple[Serving, DecisionClient]) -> None:
    servicer, client = serving
    servicer.refuses, servicer.status = 1, grpc.StatusCode.INTERNAL
    with pytest.raises(ServingUnreachable):
        await client.decide("fraud", {})
    assert len(servicer.asked_s) == 1


async def test_a_caller_may_say_that_its_request_matters_less(serving: tuple[Serving, DecisionClient]) -> None:
    servicer, client = serving
    await client.decide("fraud", {}, criticality="sheddable")
    assert servicer.metadata["flywheel-criticality"] == "sheddable"
    await client.decide("fraud", {})
    assert "flywheel-criticality" not in servicer.metadata


async def test_a_batch_has_an_outcome_for_each_event(serving: tuple[Serving, DecisionClient]) -> None:
    outcomes = await serving[1].decide_batch("fraud", [{"n": 1}, {"n": 2}], "b")
    assert [outcome.decision.request_id for outcome in outcomes] == ['b:{"n":1}', 'b:{"n":2}']


async def test_a_ranking_that_is_refused_comes_again_like_a_decision(serving: tuple[Serving, DecisionClient]) -> None:
    servicer, client = serving
    servicer.refuses = 2
    answer = await client.rank("shop", {"user_id": "u"}, ["b", "a", "c"], "r1", keep=2, criticality="sheddable")
    assert [each.candidate for each in answer.ranked] == ["a", "b"]
    assert answer.request_id == "r1"
    assert servicer.metadata["flywheel-criticality"] == "sheddable"
    assert len(servicer.asked_s) == 3


async def test_what_is_not_served_there_is_a_refusal(serving: tuple[Serving, DecisionClient]) -> None:
    servicer, client = serving
    servicer.refuses, servicer.status = 1, grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(ClientError, match="serving refuses the request"):
        await client.rank("shop", {}, ["a"])
