"""The Open Inference Protocol over HTTP: as its specification says, in JSON and in binary."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.adapters.grpc_server.calls import Gate
from flywheel.adapters.grpc_server.gates import OpenGate
from flywheel.adapters.grpc_server.status import Refusal, Status
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.kernel.lineup import Lineup, LoadedModel
from services.serving.inference.json_bodies import LENGTH_HEADER, read_request
from services.serving.inference.plane import Inference
from services.serving.inference.repository import Repository
from services.serving.inference.tensors import InvalidInference
from services.serving.rest.app import rest_app
from services.serving.rest.methods import Methods
from services.serving.settings import ServingSettings
from tests.serving_parts import USECASE, tiny_model

WIDTH = len(USECASE.feature_names)
ROWS = np.random.default_rng(1).uniform(0, 20, (3, WIDTH)).astype(np.float32)
MODEL = LoadedModel("v1", OnnxScorer(tiny_model()))
SCORES = MODEL.scorer.score(ROWS)
INFER = "/v2/models/fraud/infer"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with serving(Lineup(champion=MODEL)) as made:
        yield made


def serving(lineup: Lineup, gate: Gate | None = None) -> httpx.AsyncClient:
    inference = Inference(USECASE, Repository(USECASE, lambda: lineup, lambda: ["v0", "v1"]), max_rows=100)
    settings = ServingSettings(_env_file=None, serving_inference_max_bytes=100_000, serving_rest_body_timeout_s=0.2)
    transport = httpx.ASGITransport(app=rest_app(settings, USECASE, inference, Methods({}, gate or OpenGate())))
    return httpx.AsyncClient(transport=transport, base_url="http://here")


def tensor(**changes: Any) -> dict[str, Any]:
    made = {"name": "features", "datatype": "FP32", "shape": list(ROWS.shape), "data": ROWS.tolist()}
    return {name: value for name, value in (made | changes).items() if value is not None}


def body(*inputs: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"inputs": list(inputs) or [tensor()], **others}


async def test_the_server_says_what_it_is(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v2")).json() == {
        "name": "flywheel",
        "version": "1",
        "extensions": ["binary_tensor_data"],
    }
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    assert (await client.get("/v2/health/ready")).json() == {"ready": True}


async def test_a_server_without_a_model_is_alive_and_not_ready() -> None:
    async with serving(Lineup()) as client:
        assert (await client.get("/v2/health/live")).status_code == 200
        assert (await client.get("/v2/health/ready")).status_code == 400
        assert (await client.get("/v2/models/fraud/ready")).status_code == 400
        answer = await client.post(INFER, json=body())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/fraud/ready", 200),
        ("/v2/models/fraud/versions/v1/ready", 200),
        ("/v2/models/fraud/versions/v0/ready", 400),
        ("/v2/models/other/ready", 404),
        ("/v2/models/other", 404),
        ("/v2/models/fraud/versions/v0", 404),
    ],
)
async def test_readiness_of_models_is_a_status(client: httpx.AsyncClient, path: str, status: int) -> None:
    assert (await client.get(path)).status_code == status


async def test_a_model_is_described(client: httpx.AsyncClient) -> None:
    for path in ("/v2/models/fraud", "/v2/models/fraud/versions/v1"):
        found = (await client.get(path)).json()
        assert (found["name"], found["versions"], found["platform"]) == ("fraud", ["v1"], "onnx_onnxv1")
        assert [each["name"] for each in found["inputs"]] == list(USECASE.feature_names)
        assert found["outputs"] == [{"name": "score", "datatype": "FP64", "shape": [-1]}]


async def test_the_index_lists_versions(client: httpx.AsyncClient) -> None:
    v1 = {"name": "fraud", "version": "v1", "state": "READY", "reason": "champion"}
    v0 = {"name": "fraud", "version": "v0", "state": "UNAVAILABLE", "reason": "not loaded"}
    assert (await client.post("/v2/repository/index")).json() == [v1, v0]
    assert (await client.post("/v2/repository/index", json={"ready": True})).json() == [v1]


@pytest.mark.parametrize("data", [ROWS.tolist(), ROWS.reshape(-1).tolist()], ids=["nested", "flat"])
async def test_rows_in_json_get_their_scores(client: httpx.AsyncClient, data: list[Any]) -> None:
    answer = await client.post(INFER, json=body(tensor(data=data), id="42"))
    found = answer.json()
    assert (answer.status_code, found["model_name"], found["model_version"], found["id"]) == (200, "fraud", "v1", "42")
    (output,) = found["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("score", "FP64", [3])
    assert output["data"] == SCORES.tolist()


async def test_an_answer_to_a_request_without_id_has_none(client: httpx.AsyncClient) -> None:
    assert "id" not in (await client.post("/v2/models/fraud/versions/v1/infer", json=body())).json()


async def test_features_may_come_one_by_one(client: httpx.AsyncClient) -> None:
    columns = [
        tensor(name=name, shape=[3], data=ROWS[:, place].tolist()) for place, name in enumerate(USECASE.feature_names)
    ]
    found = (await client.post(INFER, json=body(*reversed(columns)))).json()
    assert found["outputs"][0]["data"] == SCORES.tolist()


@pytest.mark.parametrize(
    ("asked", "is_binary"),
    [
        ({"parameters": {"binary_data_output": True}}, True),
        ({"outputs": [{"name": "score", "parameters": {"binary_data": True}}]}, True),
        ({"outputs": [{"name": "score"}], "parameters": {"binary_data_output": True}}, True),
        (
            {
                "outputs": [{"name": "score", "parameters": {"binary_data": False}}],
                "parameters": {"binary_data_output": True},
            },
            False,
        ),
        ({}, False),
    ],
)
async def test_tensors_may_follow_the_json(client: httpx.AsyncClient, asked: dict[str, Any], is_binary: bool) -> None:
    content = ROWS.tobytes()
    head = orjson.dumps(body(tensor(data=None, parameters={"binary_data_size": len(content)}), **asked))
    answer = await client.post(INFER, content=head + content, headers={LENGTH_HEADER: str(len(head))})
    assert answer.status_code == 200
    if not is_binary:
        assert LENGTH_HEADER not in answer.headers
        assert answer.json()["outputs"][0]["data"] == SCORES.tolist()
        return
    length = int(answer.headers[LENGTH_HEADER])
    (output,) = orjson.loads(answer.content[:length])["outputs"]
    assert output["parameters"] == {"binary_data_size": 24}
    assert answer.content[length:] == SCORES.tobytes()


def binary(content: bytes, size: Any, length: int | None = None, **changes: Any) -> tuple[bytes, dict[str, str]]:
    head = orjson.dumps(body(tensor(**{"data": None} | changes, parameters={"binary_data_size": size})))
    return head + content, {LENGTH_HEADER: str(len(head) if length is None else length)}


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        binary(ROWS.tobytes(), 8),
        binary(ROWS.tobytes()[:-1], ROWS.nbytes),
        binary(ROWS.tobytes() + b"x", ROWS.nbytes),
        binary(ROWS.tobytes(), ROWS.nbytes, data=[1]),
        binary(ROWS.tobytes(), -1),
        binary(ROWS.tobytes(), "8"),
        binary(ROWS.tobytes(), ROWS.nbytes, length=10**9),
        binary(ROWS.tobytes(), ROWS.nbytes, length=3),
        (b"{}", {LENGTH_HEADER: "-1"}),
    ],
)
async def test_lengths_that_do_not_fit_are_refused(
    client: httpx.AsyncClient, content: bytes, headers: dict[str, str]
) -> None:
    answer = await client.post(INFER, content=content, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:flywheel:problem:invalid-inference")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (body(tensor(data=None)), "features: it has no data"),
        (body(tensor(shape=[3, 2])), "not nested as the shape"),
        (body(tensor(data=[[1.0]] * 3)), "not nested as the shape"),
        (body(tensor(datatype="BYTES")), "'BYTES' is not served"),
        (body(tensor(name="x")), "the model has no 'x'"),
        (body(tensor(parameters={"shared_memory_region": "r"})), "'shared_memory_region' is not served"),
        (body(outputs=[{"name": "score", "parameters": {"classification": 1}}]), "'classification' is not served"),
        (body(outputs=[{"name": "score", "parameters": {"binary_data": 1}}]), "binary_data"),
        (body(parameters={"sequence_id": 1}), "'sequence_id' is not served"),
        (body(parameters={"binary_data_output": "yes"}), "binary_data_output"),
        (body(extra=1), "extra"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [{"name": "features"}]}, r"inputs.0.shape"),
        (body(tensor(shape=[3.0, WIDTH])), r"inputs.0.shape.0"),
        ([], "body"),
    ],
)
async def test_a_refusal_names_what_is_wrong_for_people_and_for_clients(
    client: httpx.AsyncClient, sent: Any, said: str
) -> None:
    answer = await client.post(INFER, json=sent)
    found = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert said in found["error"]
    assert {"field", "reason", "hint"} == set(found["errors"][0])


async def test_numbers_that_are_no_json_are_refused_with_a_way_out(client: httpx.AsyncClient) -> None:
    answer = await client.post(INFER, content=b'{"inputs": [NaN]}')
    assert (answer.status_code, answer.json()["errors"][0]["hint"]) == (400, "send null for NaN")


async def test_a_body_out_of_bounds_is_refused(client: httpx.AsyncClient) -> None:
    large = await client.post(INFER, content=b" " * 100_001)
    packed = await client.post(INFER, json=body(), headers={"content-encoding": "gzip"})
    assert (large.status_code, packed.status_code) == (413, 415)
    assert packed.json()["error"] == packed.json()["detail"] == "send the body uncompressed"


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/v2/models/fraud/config", 501, "not served here: a model's configuration"),
        ("GET", "/v2/models/fraud/versions/v1/stats", 501, "not served here: statistics"),
        ("GET", "/v2/models/stats", 501, "not served here: statistics"),
        ("POST", "/v2/repository/models/fraud/load", 501, "make deploy"),
        ("POST", "/v2/repository/models/fraud/unload", 501, "make rollback"),
        ("GET", "/v2/systemsharedmemory/status", 501, "not served here: shared memory"),
        ("POST", "/v2/models/fraud/generate", 501, "/infer runs a model"),
        ("GET", "/v2/nothing", 404, "GET /v2/nothing: not found"),
        ("GET", INFER, 405, "method not allowed"),
        ("GET", "/v2/models/other", 404, "other"),
        ("GET", "/v2/models/fraud/versions/v0/ready", 400, "not ready"),
    ],
)
async def test_every_refusal_has_what_clients_of_the_protocol_show(
    client: httpx.AsyncClient, method: str, path: str, status: int, said: str
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert said in answer.json()["error"]


async def test_an_unforeseen_error_has_it_as_well(monkeypatch: pytest.MonkeyPatch, client: httpx.AsyncClient) -> None:
    monkeypatch.setattr(Inference, "ready", lambda _: 1 / 0)
    answer = await client.get("/v2/health/ready")
    assert answer.status_code == 500
    assert "request id" in answer.json()["error"]


async def test_elsewhere_problems_have_no_member_of_the_protocol(client: httpx.AsyncClient) -> None:
    found = (await client.get("/")).json()
    assert "error" not in found
    assert "/docs" in found["detail"]
    assert "error" not in (await client.get("/v2x")).json()


async def test_the_callers_time_is_kept(client: httpx.AsyncClient) -> None:
    late = await client.post(INFER, json=body(), headers={"Request-Timeout-Ms": "0.000001"})
    assert (late.status_code, late.json()["type"]) == (504, "urn:flywheel:problem:out-of-time")
    assert (await client.post(INFER, json=body(), headers={"Request-Timeout-Ms": "5000"})).status_code == 200
    for nonsense in ("soon", "-1", "0", "nan"):
        assert (await client.post(INFER, json=body(), headers={"Request-Timeout-Ms": nonsense})).status_code == 400


class Recorded:
    """Refuses when it is told to, and keeps what it was asked and told."""

    def __init__(self, refused: Refusal | None = None) -> None:
        self.refused = refused
        self.asked: list[tuple[str, str | None]] = []
        self.ends: list[Status] = []

    def look(self, path: str, metadata: Mapping[str, str], timeout_s: float) -> Refusal | None:
        assert timeout_s == math.inf
        self.asked.append((path, metadata.get("flywheel-criticality")))
        return self.refused

    def begin(self, path: str, metadata: Mapping[str, str], timeout_s: float) -> Refusal | None:
        assert timeout_s == math.inf
        assert (path, metadata.get("flywheel-criticality")) == self.asked[-1]
        return self.refused

    def ended(self, path: str, metadata: Mapping[str, str], seconds: float, outcome: Status) -> None:
        assert (path, metadata.get("flywheel-criticality")) == self.asked[-1]
        assert seconds >= 0
        self.ends.append(outcome)


async def test_inferences_pass_the_same_gate_as_over_grpc() -> None:
    gate = Recorded()
    async with serving(Lineup(champion=MODEL), gate) as client:
        await client.post(INFER, json=body(), headers={"Flywheel-Criticality": "sheddable"})
        await client.post(INFER, json={})
        await client.post(INFER, content=b" " * 100_001)
        await client.post("/v2/models/other/infer", json=body())
        assert gate.asked[0] == ("/inference.GRPCInferenceService/ModelInfer", "sheddable")
        # What is too long is not read to its end, and asks for no place.
        assert gate.ends == [Status.OK, Status.INVALID_ARGUMENT, Status.NOT_FOUND]
        gate.refused = Refusal(Status.RESOURCE_EXHAUSTED, "full", {"grpc-retry-pushback-ms": "1200"})
        answer = await client.post(INFER, json=body())
        assert (answer.status_code, answer.headers["retry-after"], answer.json()["error"]) == (429, "2", "full")
        assert len(gate.ends) == 3


async def test_rows_that_are_sent_slowly_hold_no_place() -> None:
    gate = Recorded()

    async def dawdling() -> AsyncIterator[bytes]:
        sent = orjson.dumps(body())
        yield sent[:10]
        await asyncio.sleep(0)
        assert gate.asked == []
        yield sent[10:]

    async with serving(Lineup(champion=MODEL), gate) as client:
        assert (await client.post(INFER, content=dawdling())).status_code == 200
    assert (len(gate.asked), gate.ends) == (1, [Status.OK])


@given(st.binary(max_size=60), st.one_of(st.none(), st.integers(0, 80)))
def test_no_body_is_more_than_refused(content: bytes, length: int | None) -> None:
    with pytest.raises(InvalidInference):
        read_request("m", "", content, length)


@pytest.mark.parametrize("depth", [8, 900])
def test_deep_nesting_is_refused(depth: int) -> None:
    nested = "[" * (depth + 1) + "1" + "]" * (depth + 1)
    sent = orjson.dumps(body(tensor(shape=[1] * depth, data="nested"))).decode().replace('"nested"', nested)
    with pytest.raises(InvalidInference):
        read_request("m", "", sent.encode(), None)
