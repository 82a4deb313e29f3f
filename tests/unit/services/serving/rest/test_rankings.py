"""A ranking over HTTP is the gRPC method's own answer; a use case that does not rank has no such path."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import orjson
import pytest

from flywheel.adapters.grpc_server.calls import Call
from flywheel.adapters.grpc_server.gates import OpenGate
from flywheel.contracts.proto.ranking_pb2 import RankedCandidate, RankRequest, RankResponse, StatusCounts
from flywheel.kernel.lineup import Lineup
from services.serving.inference.plane import Inference
from services.serving.inference.repository import Repository
from services.serving.rankings.servicer import RANK
from services.serving.rest.app import rest_app
from services.serving.rest.methods import Methods
from services.serving.settings import ServingSettings
from tests.serving_parts import USECASE

PATH = "/v1/usecases/shop/rankings"


class Desk:
    """Ranks in the order given."""

    def __init__(self) -> None:
        self.asked: list[RankRequest] = []

    def __call__(self, calls: Sequence[Call]) -> None:
        for call in calls:
            request = RankRequest.FromString(call.message)
            self.asked.append(request)
            ranked = [RankedCandidate(candidate=each, score=0.5) for each in request.candidates]
            status = {"items": StatusCounts(candidates={"fresh": len(ranked)})}
            call.reply(RankResponse(ranked=ranked, dropped={"sold": 1}, feature_status=status).SerializeToString())


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def client(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    inference = Inference(USECASE, Repository(USECASE, Lineup, list), max_rows=1)
    app = rest_app(ServingSettings(_env_file=None), USECASE, inference, Methods({RANK: desk}, OpenGate()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://here") as made:
        yield made


async def test_candidates_go_in_and_come_out_in_order(client: httpx.AsyncClient, desk: Desk) -> None:
    subject = {"user_id": "u1", "number": 2**70}
    answer = await client.post(PATH, json={"subject": subject, "candidates": ["b", "a"], "keep": 2})
    (asked,) = desk.asked
    assert (asked.usecase, list(asked.candidates), asked.keep) == ("shop", ["b", "a"], 2)
    assert asked.subject == b'{"user_id": "u1", "number": 1180591620717411303424}'
    found = answer.json()
    assert (answer.status_code, [each["candidate"] for each in found["ranked"]]) == (200, ["b", "a"])
    assert (found["dropped"], found["feature_status"]) == ({"sold": 1}, {"items": {"candidates": {"fresh": 2}}})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"candidates": []}, "subject"),
        ({"subject": {}}, "candidates"),
        ({"subject": {}, "candidates": [1]}, "candidates.0"),
        ({"subject": {}, "candidates": [], "keep": -1}, "keep"),
        ({"subject": {}, "candidates": [], "shown": 1}, "shown"),
        ([], "body"),
    ],
)
async def test_what_is_wrong_is_named(client: httpx.AsyncClient, desk: Desk, body: Any, field: str) -> None:
    answer = await client.post(PATH, content=orjson.dumps(body), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert desk.asked == []


async def test_only_what_the_use_case_answers_is_there(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()
    assert "/v1/usecases/{usecase}/rankings" in described["paths"]
    assert "/v1/usecases/{usecase}/decisions" not in described["paths"]
    assert (await client.post("/v1/usecases/shop/decisions", json={})).status_code == 404
    text = orjson.dumps(described).decode()
    for name in set(part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]):
        assert name in described["components"]["schemas"]
