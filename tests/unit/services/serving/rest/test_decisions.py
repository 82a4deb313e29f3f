"""A decision over HTTP is the gRPC method's own answer, refusal or silence, in HTTP's words."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence

import httpx
import pytest

from flywheel.adapters.grpc_server.calls import Call, Unary
from flywheel.adapters.grpc_server.status import Refusal as Turned
from flywheel.adapters.grpc_server.status import Status
from flywheel.contracts.proto.decision_pb2 import (
    DecideOutcome,
    DecideRequest,
    DecideResponse,
    FeatureValue,
    Refusal,
)
from flywheel.kernel.lineup import Lineup
from services.serving.inference.plane import Inference
from services.serving.inference.repository import Repository
from services.serving.rest.answers import as_json
from services.serving.rest.app import rest_app
from services.serving.rest.methods import Methods
from services.serving.settings import ServingSettings
from tests.serving_parts import USECASE, payment

PATH = "/v1/usecases/fraud/decisions"
JSON = {"content-type": "application/json"}
ANSWER = DecideResponse(
    decision_id="d1",
    action="approve",
    score=0.25,
    reasons=["low"],
    features=[FeatureValue(name="a", value=1.5), FeatureValue(name="b", value=math.nan)],
    feature_status={"card": "fresh"},
)


class Desk:
    """The method behind: keeps its calls, and ends them as the test says."""

    def __init__(self, ending: tuple[Status, str, dict[str, str]] | None = None, *, silent: bool = False) -> None:
        self.calls: list[Call] = []
        self.given_up = asyncio.Event()
        self._ending = ending
        self._silent = silent

    def __call__(self, calls: Sequence[Call]) -> None:
        for call in calls:
            self.calls.append(call)
            call.on_cancel(self.given_up.set)
            if self._ending:
                call.fail(*self._ending)
            elif not self._silent:
                call.reply(ANSWER.SerializeToString())

    @property
    def asked(self) -> DecideRequest:
        return DecideRequest.FromString(self.calls[-1].message)


class OneAtOnce:
    """Admits one decision at once, if its caller waits at least a millisecond."""

    def __init__(self) -> None:
        self.in_flight = 0

    def look(self, path: str, metadata: Mapping[str, str], timeout_s: float) -> Turned | None:  # noqa: ARG002
        return None

    def begin(self, path: str, metadata: Mapping[str, str], timeout_s: float) -> Turned | None:
        assert path == "/flywheel.v1.Decisions/Decide"
        assert metadata["host"] == "here"
        if timeout_s < 0.001:
            return Turned(Status.DEADLINE_EXCEEDED, "over already")
        if self.in_flight:
            return Turned(Status.RESOURCE_EXHAUSTED, "one at once")
        self.in_flight += 1
        return None

    def ended(self, path: str, metadata: Mapping[str, str], seconds: float, outcome: Status) -> None:
        assert (path, metadata["host"]) == ("/flywheel.v1.Decisions/Decide", "here")
        assert seconds >= 0
        assert isinstance(outcome, Status)
        self.in_flight -= 1


def client(unary: Unary, gate: OneAtOnce | None = None) -> httpx.AsyncClient:
    path = "/flywheel.v1.Decisions/Decide"
    methods = Methods({path: unary}, gate or OneAtOnce())
    inference = Inference(USECASE, Repository(USECASE, Lineup, list), max_rows=1)
    settings = ServingSettings(_env_file=None, serving_max_subject_bytes=1_000)
    app = rest_app(settings, USECASE, inference, methods)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://here", headers=JSON)


async def test_the_method_is_asked_for_the_subject_and_its_answer_told_whole() -> None:
    desk = Desk()
    async with client(desk) as http:
        headers = {"X-Request-Id": "r-1", "Flywheel-Criticality": "critical"}
        answer = await http.post(
            PATH, params={"explain": 2, "omit_features": "true"}, content=payment(), headers=headers
        )
    assert (desk.asked.usecase, desk.asked.subject) == ("fraud", payment())
    assert (desk.asked.explain, desk.asked.omit_features) == (2, True)
    assert (desk.asked.request_id, answer.headers["x-request-id"]) == ("r-1", "r-1")
    assert desk.calls[0].metadata["flywheel-criticality"] == "critical"
    assert desk.calls[0].deadline_s == math.inf
    found = answer.json()
    assert answer.status_code == 200
    assert set(found) == {field.name for field in DecideResponse.DESCRIPTOR.fields}
    assert (found["action"], found["score"], found["reasons"]) == ("approve", 0.25, ["low"])
    assert found["features"] == [{"name": "a", "value": 1.5}, {"name": "b", "value": None}]
    assert found["feature_status"] == {"card": "fresh"}


def test_parts_of_a_message_are_told_where_they_are() -> None:
    told = as_json(DecideOutcome(refusal=Refusal(status=3, reason="no")))
    assert told == {"refusal": {"status": 3, "reason": "no"}}


@pytest.mark.parametrize(
    ("ending", "status", "kind", "retry"),
    [
        ((Status.INVALID_ARGUMENT, "amount_cents: missing", {}), 422, "invalid-argument", None),
        ((Status.NOT_FOUND, "no use case", {}), 404, "not-found", None),
        ((Status.DEADLINE_EXCEEDED, "too late", {}), 504, "deadline-exceeded", None),
        ((Status.RESOURCE_EXHAUSTED, "full", {"grpc-retry-pushback-ms": "30"}), 429, "resource-exhausted", "1"),
        ((Status.UNAVAILABLE, "going", {"grpc-retry-pushback-ms": "-1"}), 503, "unavailable", "1"),
        ((Status.INTERNAL, "see the log", {}), 500, "internal", None),
        ((Status.DATA_LOSS, "odd", {}), 500, "data-loss", None),
    ],
)
async def test_a_refusal_is_a_problem(
    ending: tuple[Status, str, dict[str, str]], status: int, kind: str, retry: str | None
) -> None:
    async with client(Desk(ending)) as http:
        answer = await http.post(PATH, content=payment())
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert (answer.json()["type"], answer.json()["detail"]) == (f"urn:flywheel:problem:{kind}", ending[1])
    assert answer.headers.get("retry-after") == retry


async def test_a_caller_who_waits_no_longer_is_told_so_and_frees_his_place() -> None:
    desk = Desk(silent=True)
    gate = OneAtOnce()
    async with client(desk, gate) as http:
        answer = await http.post(PATH, content=payment(), headers={"Request-Timeout-Ms": "20"})
    assert (answer.status_code, answer.json()["detail"]) == (504, "the 20 ms that the caller gave are over")
    assert desk.given_up.is_set()
    assert desk.calls[0].cancelled
    assert gate.in_flight == 0


async def test_the_gate_knows_how_long_the_caller_waits() -> None:
    desk = Desk()
    async with client(desk) as http:
        answer = await http.post(PATH, content=payment(), headers={"Request-Timeout-Ms": "0.5"})
    assert (answer.status_code, answer.json()["detail"], desk.calls) == (504, "over already", [])


async def test_one_more_than_the_gate_admits_is_turned_away() -> None:
    desk = Desk(silent=True)
    async with client(desk) as http:
        first = asyncio.create_task(http.post(PATH, content=payment()))
        while not desk.calls:
            await asyncio.sleep(0)
        assert (await http.post(PATH, content=payment())).status_code == 429
        desk.calls[0].reply(ANSWER.SerializeToString())
        assert (await first).status_code == 200
        assert len(desk.calls) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("explain", each) for each in ("-1", "many", "1001", "9" * 5_000)]
    + [("omit_features", "1"), ("omit_features", ""), ("unknown", "1")],
)
async def test_what_is_asked_in_other_words_is_refused(name: str, value: str) -> None:
    desk = Desk()
    async with client(desk) as http:
        answer = await http.post(PATH, params={name: value}, content=payment())
    assert (answer.status_code, answer.json()["errors"][0]["field"], desk.calls) == (422, name, [])


async def test_a_body_out_of_bounds_never_reaches_the_method() -> None:
    desk = Desk()
    async with client(desk) as http:
        assert (await http.post(PATH, content=b" " * 1_001)).status_code == 413
        assert (await http.post(PATH, content=payment(), headers={"content-type": "text/plain"})).status_code == 415
    assert desk.calls == []
