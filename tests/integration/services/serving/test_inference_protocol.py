"""Clients of the Open Inference Protocol as they are installed, against the running server: gRPC stubs, tritonclient,
plain HTTP. Golden rows give golden scores whichever way they come."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from flywheel.adapters.memory_decision_log import MemoryDecisionLog
from flywheel.adapters.memory_model_store import MemoryModelStore
from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.contracts.proto.decision_pb2 import DecideRequest
from flywheel.contracts.proto.decision_pb2_grpc import DecisionsStub
from flywheel.contracts.proto.inference_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelReadyRequest,
    RepositoryIndexRequest,
    ServerLiveRequest,
    ServerMetadataRequest,
    ServerReadyRequest,
)
from flywheel.contracts.proto.inference_pb2_grpc import GRPCInferenceServiceStub
from services.serving.bootstrap import build
from services.serving.port.port import CannotServe
from services.serving.server import Server
from services.serving.settings import ServingSettings
from tests.certificates import Authority
from tests.serving_parts import PLAN, USECASE, deploy, manifest_of, payment, publish, tiny_model

MANIFEST = manifest_of("v1", tiny_model())
GOLDEN = np.array(MANIFEST.golden_inputs, np.float32)
SCORES = np.array(MANIFEST.golden_scores)
WIDTH = GOLDEN.shape[1]


def made(tmp_path: Path, **changes: Any) -> Server:
    store = MemoryModelStore()
    publish(store, "v0", bias=-1.0)
    publish(store, "v1")
    publish(store, "v2", bias=-2.0)
    deploy(store, "v1", challenger="v2", share=0.1)
    anywhere: dict[str, Any] = {
        "serving_address": "127.0.0.1:0",
        "serving_rest_address": "127.0.0.1:0",
        "serving_metrics_port": 0,
    }
    settings = ServingSettings(_env_file=None, data_dir=tmp_path, **(anywhere | changes))

    def log() -> MemoryDecisionLog:
        return MemoryDecisionLog(on_acknowledged=lambda: None, on_lost=lambda _: None)

    reader = MemoryFeatureStore(PLAN).reader()
    return build(settings, USECASE, reader=reader, store=store, log=log(), open_shadow_log=log)


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[Server]:
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(made(tmp_path)) as found:
        yield found


@pytest.fixture
async def channel(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as opened:
        yield opened


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.rest_port}") as client:
        yield client


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return GRPCInferenceServiceStub(channel)


def raw(rows: np.ndarray[Any, Any], **fields: Any) -> ModelInferRequest:
    tensor = ModelInferRequest.InferInputTensor(name="features", datatype="FP32", shape=rows.shape)
    fields = {"model_name": "fraud", "raw_input_contents": [rows.tobytes()]} | fields
    return ModelInferRequest(inputs=[tensor], **fields)


def scores(answer: ModelInferResponse) -> Any:
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("score", "FP64", [len(GOLDEN)])
    if answer.raw_output_contents:
        return np.frombuffer(answer.raw_output_contents[0])
    return np.array(output.contents.fp64_contents)


async def test_the_server_tells_about_itself_and_its_models(stub: Any) -> None:
    assert (await stub.ServerLive(ServerLiveRequest())).live
    assert (await stub.ServerReady(ServerReadyRequest())).ready
    assert (await stub.ServerMetadata(ServerMetadataRequest())).name == "flywheel"
    for version, ready in (("", True), ("v1", True), ("v2", True), ("v0", False)):
        assert (await stub.ModelReady(ModelReadyRequest(name="fraud", version=version))).ready is ready
    metadata = await stub.ModelMetadata(ModelMetadataRequest(name="fraud"))
    assert list(metadata.versions) == ["v1", "v2"]
    assert [tensor.name for tensor in metadata.inputs] == list(USECASE.feature_names)
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in metadata.outputs] == [
        ("score", "FP64", [-1])
    ]
    index = await stub.RepositoryIndex(RepositoryIndexRequest())
    assert [(each.version, each.state, each.reason) for each in index.models] == [
        ("v1", "READY", "champion"),
        ("v2", "READY", "challenger"),
        ("v0", "UNAVAILABLE", "not loaded"),
    ]
    assert len((await stub.RepositoryIndex(RepositoryIndexRequest(ready=True))).models) == 2


async def test_golden_rows_give_golden_scores(stub: Any) -> None:
    answer = await stub.ModelInfer(raw(GOLDEN, id="42"))
    assert (answer.model_name, answer.model_version, answer.id) == ("fraud", "v1", "42")
    np.testing.assert_allclose(scores(answer), SCORES, atol=1e-6)
    typed = raw(GOLDEN, raw_input_contents=[])
    typed.inputs[0].contents.fp32_contents.extend(GOLDEN.reshape(-1))
    np.testing.assert_array_equal(scores(await stub.ModelInfer(typed)), scores(answer))
    columns = ModelInferRequest(model_name="fraud", model_version="v1")
    for place in reversed(range(WIDTH)):
        tensor = columns.inputs.add(name=USECASE.feature_names[place], datatype="FP64", shape=[len(GOLDEN)])
        tensor.contents.fp64_contents.extend(GOLDEN[:, place])
    np.testing.assert_array_equal(scores(await stub.ModelInfer(columns)), scores(answer))
    other = scores(await stub.ModelInfer(raw(GOLDEN, model_version="v2")))
    assert (other > scores(answer)).all()


async def refusal(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), str(caught.value.details())


async def test_a_refusal_has_the_right_status(stub: Any) -> None:
    invalid, missing = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
    typed_and_raw = raw(GOLDEN)
    typed_and_raw.inputs[0].contents.fp32_contents.append(1)
    misplaced = raw(GOLDEN, raw_input_contents=[])
    misplaced.inputs[0].contents.fp64_contents.append(1)
    parameter = raw(GOLDEN)
    parameter.parameters["sequence_id"].int64_param = 1
    of_tensor = raw(GOLDEN)
    of_tensor.inputs[0].parameters["shared_memory_region"].string_param = "r"
    for request, code, said in (
        (raw(GOLDEN[:, :2]), invalid, f"features: the shape is [5, 2]; send [rows, {WIDTH}]"),
        (raw(GOLDEN, raw_input_contents=[b"x"]), invalid, "features: 1 bytes where"),
        (raw(GOLDEN, raw_input_contents=[b"x", b"y"]), invalid, "2 contents for 1 inputs"),
        (typed_and_raw, invalid, "typed and raw"),
        (misplaced, invalid, "elements of FP32 come in fp64_contents; fill fp32_contents"),
        (parameter, invalid, "'sequence_id' is not served"),
        (of_tensor, invalid, "features: parameters of a tensor"),
        (raw(GOLDEN, model_name="other"), missing, "there is no model 'other'; there is fraud"),
        (raw(GOLDEN, model_version="v0"), missing, "'v0' of fraud is not loaded; there is v1, v2"),
    ):
        found = await refusal(stub.ModelInfer(request))
        assert found[0] is code
        assert said in found[1]
    assert (await refusal(stub.ModelReady(ModelReadyRequest(name="other"))))[0] is missing
    named = RepositoryIndexRequest(repository_name="mine")
    assert (await refusal(stub.RepositoryIndex(named)))[0] is missing


async def test_bytes_that_are_no_message_are_an_invalid_argument(channel: grpc.aio.Channel) -> None:
    infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    assert (await refusal(infer(b"\xff\xff")))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_many_rows_are_taken_up_to_the_limits(stub: Any) -> None:
    rows = np.tile(GOLDEN, (200, 1))
    answer = await stub.ModelInfer(raw(rows))
    np.testing.assert_allclose(np.frombuffer(answer.raw_output_contents[0]), np.tile(SCORES, 200), atol=1e-6)
    more = raw(np.tile(GOLDEN, (201, 1)))
    assert await refusal(stub.ModelInfer(more)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        f"inputs: {201 * GOLDEN.size} elements where the model takes {1_000 * GOLDEN.shape[1]} at once; "
        "send fewer rows",
    )
    too_large = raw(np.tile(GOLDEN, (4_000, 1)))
    assert (await refusal(stub.ModelInfer(too_large)))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_answers_under_load_belong_to_their_requests(stub: Any) -> None:
    batches = [np.roll(GOLDEN, shift, axis=0)[: 1 + shift % 5] for shift in range(100)]
    at_once = asyncio.Semaphore(8)

    async def asked(number: int, rows: np.ndarray[Any, Any]) -> ModelInferResponse:
        async with at_once:
            answer: ModelInferResponse = await stub.ModelInfer(raw(rows, id=str(number)))
        return answer

    answers = await asyncio.gather(*(asked(number, rows) for number, rows in enumerate(batches)))
    for shift, answer in enumerate(answers):
        assert answer.id == str(shift)
        wanted = np.roll(SCORES, shift)[: 1 + shift % 5]
        np.testing.assert_allclose(np.frombuffer(answer.raw_output_contents[0]), wanted, atol=1e-6)


async def test_reflection_names_the_service(channel: grpc.aio.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    found = [answer async for answer in stub.ServerReflectionInfo(asked)]
    services = {service.name for service in found[0].list_services_response.service}
    assert {"inference.GRPCInferenceService", "flywheel.v1.Decisions"} <= services


# Its description of the protocol and ours register the same names, so that it needs a process of its own.
_TRITON = """
import sys
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

client = triton.InferenceServerClient(sys.argv[1])
rows = np.array(eval(sys.argv[2]), np.float32)
assert client.is_server_live() and client.is_server_ready()
assert client.is_model_ready("fraud") and client.is_model_ready("fraud", "v2")
assert not client.is_model_ready("fraud", "v0")
assert client.get_server_metadata().name == "flywheel"
metadata = client.get_model_metadata("fraud", as_json=True)
assert len(metadata["inputs"]) == rows.shape[1]
assert [each.state for each in client.get_model_repository_index().models] == ["READY", "READY", "UNAVAILABLE"]

def tensor(name, values):
    made = triton.InferInput(name, values.shape, "FP32")
    made.set_data_from_numpy(values)
    return made

whole = client.infer("fraud", [tensor("features", rows)], request_id="7", client_timeout=5)
assert whole.get_response().id == "7"
names = [each["name"] for each in metadata["inputs"]]
columns = [tensor(name, np.ascontiguousarray(rows[:, place])) for place, name in enumerate(names)]
outputs = [triton.InferRequestedOutput("score")]
by_name = client.infer("fraud", columns[::-1], outputs=outputs, model_version="v1", timeout=5_000_000)
assert np.array_equal(by_name.as_numpy("score"), whole.as_numpy("score"))
for wrong in ({"model_name": "no"}, {"model_name": "fraud", "priority": 1}, {"model_name": "fraud", "sequence_id": 1}):
    try:
        client.infer(inputs=[tensor("features", rows)], **wrong)
    except InferenceServerException as error:
        assert error.status() in ("StatusCode.NOT_FOUND", "StatusCode.INVALID_ARGUMENT"), error
    else:
        raise AssertionError(wrong)
print(whole.as_numpy("score").tolist())
"""


async def test_tritonclient_works_as_it_is(server: Server) -> None:
    command = ("-W", "error::UserWarning", "-c", _TRITON, f"127.0.0.1:{server.port}", str(GOLDEN.tolist()))
    pipe = asyncio.subprocess.PIPE
    client = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=pipe, stderr=pipe)
    said, complained = await asyncio.wait_for(client.communicate(), 60)
    assert client.returncode == 0, complained.decode()
    np.testing.assert_allclose(np.array(eval(said)), SCORES, atol=1e-6)


async def test_http_gives_the_same_scores(stub: Any, http: httpx.AsyncClient) -> None:
    tensor = {"name": "features", "datatype": "FP32", "shape": GOLDEN.shape, "data": GOLDEN.tolist()}
    answer = await http.post("/v2/models/fraud/infer", json={"inputs": [tensor]})
    (output,) = answer.json()["outputs"]
    np.testing.assert_array_equal(output["data"], scores(await stub.ModelInfer(raw(GOLDEN))))
    assert (await http.get("/v2/health/ready")).status_code == 200


async def test_http_gives_the_same_decision(channel: grpc.aio.Channel, http: httpx.AsyncClient) -> None:
    subject = payment()
    by_grpc = await DecisionsStub(channel).Decide(DecideRequest(usecase="fraud", subject=subject))
    path, headers = "/v1/usecases/fraud/decisions", {"content-type": "application/json", "x-request-id": "r-9"}
    answer = await http.post(path, content=subject, headers=headers)
    found = answer.json()
    assert (found["request_id"], found["decision_id"] != by_grpc.decision_id) == ("r-9", True)
    for name in ("action", "score", "model_version", "arm", "fallback", "reasons"):
        assert found[name] == getattr(by_grpc, name), name
    assert [each["name"] for each in found["features"]] == [each.name for each in by_grpc.features]
    wrong = await http.post(path, content=payment(amount_cents="12"), headers=headers)
    assert wrong.status_code == 422
    assert wrong.json()["detail"].startswith("amount_cents: ")
    assert (await http.post("/v1/usecases/other/decisions", content=subject, headers=headers)).status_code == 404


async def test_http_has_an_address_of_its_own_or_none(tmp_path: Path, server: Server) -> None:
    taken = f"127.0.0.1:{server.rest_port}"
    with pytest.raises(CannotServe, match=f"{taken} is taken .* FLYWHEEL_SERVING_REST_ADDRESS"):
        async with running(made(tmp_path / "second", serving_rest_address=taken)):
            pass
    async with running(made(tmp_path / "third", serving_rest_address="")) as without:
        assert (without.rest_port, without.port > 0) == (0, True)


async def test_http_asks_for_certificates_where_grpc_does(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    signed, client = authority.sign("server"), authority.sign("client")
    certificates: dict[str, Any] = {
        "serving_tls_certificate": signed.certificate,
        "serving_tls_key": signed.key,
        "serving_tls_client_ca": authority.certificate,
    }
    known = ssl.create_default_context(cafile=authority.certificate)
    stranger = ssl.create_default_context(cafile=authority.certificate)
    known.load_cert_chain(client.certificate, client.key)
    async with running(made(tmp_path, **certificates)) as server:
        address = f"127.0.0.1:{server.rest_port}/v2/health/live"
        async with httpx.AsyncClient(verify=known) as http:
            assert (await http.get(f"https://{address}")).json() == {"live": True}
        async with httpx.AsyncClient(verify=stranger) as http:
            for scheme in ("https", "http"):
                with pytest.raises(httpx.TransportError):
                    await http.get(f"{scheme}://{address}")
