"""The Open Inference Protocol over HTTP: paths, statuses and headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from flywheel.adapters.grpc_server.status import CallFailed
from flywheel.adapters.http_problem import FieldError, Problem
from services.serving.inference.json_bodies import LENGTH_HEADER, Asked, read_ready_only, read_request, write_answer
from services.serving.inference.messages import (
    SERVER_NAME,
    SERVER_VERSION,
    ModelDescription,
    ModelNotReady,
    TensorDescription,
    UnknownModel,
)
from services.serving.inference.methods import INFER, failing_calls
from services.serving.inference.plane import Inference
from services.serving.inference.refusals import ENDINGS
from services.serving.inference.tensors import InvalidInference
from services.serving.rest.answers import problem_of
from services.serving.rest.calls import Calls
from services.serving.rest.documentation import infer_operation
from services.serving.rest.methods import Methods

_MODEL = "/v2/models/{model}"
_VERSION = _MODEL + "/versions/{version}"


def inference_routes(inference: Inference, methods: Methods, calls: Calls) -> APIRouter:
    """Everything below /v2."""
    handlers = _Handlers(inference, methods, calls)
    router = APIRouter(tags=["Open Inference Protocol"])
    router.add_api_route("/v2", handlers.server, methods=["GET"], summary="Name, version and extensions")
    router.add_api_route("/v2/health/live", handlers.live, methods=["GET"], summary="Whether the server answers")
    router.add_api_route("/v2/health/ready", handlers.ready, methods=["GET"], summary="Whether its models are loaded")
    for path in (_MODEL, _VERSION):
        suffix = " of a version" if path == _VERSION else ""
        router.add_api_route(path, handlers.model, methods=["GET"], summary=f"What a model takes and gives{suffix}")
        router.add_api_route(f"{path}/ready", handlers.model_ready, methods=["GET"], summary=f"Readiness{suffix}")
        router.add_api_route(
            f"{path}/infer",
            handlers.infer,
            methods=["POST"],
            summary=f"Scores{suffix}",
            openapi_extra=infer_operation(),
        )
    router.add_api_route("/v2/repository/index", handlers.index, methods=["POST"], summary="All published versions")
    return router


class _Handlers:
    def __init__(self, inference: Inference, methods: Methods, calls: Calls) -> None:
        self._inference = inference
        self._methods = methods
        self._calls = calls

    async def server(self) -> Response:
        return _json({"name": SERVER_NAME, "version": SERVER_VERSION, "extensions": ["binary_tensor_data"]})

    async def live(self) -> Response:
        return _json({"live": True})

    async def ready(self) -> Response:
        return _yes_or_no({"ready": self._inference.ready()})

    async def model_ready(self, request: Request) -> Response:
        name, version = _named(request)
        try:
            return _yes_or_no({"name": name, "ready": self._inference.model_ready(name, version)})
        except UnknownModel as error:
            raise problem(error) from error

    async def model(self, request: Request) -> Response:
        try:
            return _json(_described(self._inference.describe(*_named(request))))
        except (UnknownModel, ModelNotReady) as error:
            raise problem(error) from error

    async def index(self, request: Request) -> Response:
        try:
            ready_only = read_ready_only(await self._calls.inference(request))
        except InvalidInference as error:
            raise problem(error) from error
        entries = await self._inference.index(ready_only=ready_only)
        return _json([{"name": e.name, "version": e.version, "state": e.state, "reason": e.reason} for e in entries])

    async def infer(self, request: Request) -> Response:
        patience_s = self._calls.patience_s(request)
        deadline_s = perf_counter() + patience_s
        counted = self._inference.counted("rest")
        try:
            # All of it first: how long a caller takes to send its rows must cost others nothing.
            body = await self._calls.inference(request)
            patience_s = deadline_s - perf_counter()
            with self._methods.admitted(INFER, dict(request.headers), patience_s), failing_calls(), counted:
                asked = await self._read(request, body)
                answer = await self._inference.infer(asked.request, deadline_s)
        except CallFailed as failed:
            raise _problem_of(failed) from failed
        content, json_length = write_answer(answer, asked)
        if json_length is None:
            return Response(content, media_type="application/json")
        headers = {LENGTH_HEADER: str(json_length)}
        return Response(content, headers=headers, media_type="application/octet-stream")

    async def _read(self, request: Request, body: bytes) -> Asked:
        name, version = _named(request)
        length, max_elements = _json_length(request), self._inference.max_elements(name, version)
        return await self._inference.read(len(body), lambda: read_request(name, version, body, length, max_elements))


def problem(error: Exception) -> Problem:
    """The refusal as a problem."""
    ending = ENDINGS[type(error)]
    errors = [FieldError(error.field, error.reason, error.hint)] if isinstance(error, InvalidInference) else []
    headers = {"Retry-After": "1"} if ending.http_status == 503 else {}
    return Problem(ending.http_status, ending.kind, ending.title, str(error), errors, headers=headers)


def with_protocol_error(path: str, problem: Problem) -> Problem:
    """The problem, below /v2 with the member `error`: what clients of the protocol show."""
    if path != "/v2" and not path.startswith("/v2/"):
        return problem
    return replace(problem, extra={"error": problem.detail, **problem.extra})


def _problem_of(failed: CallFailed) -> Problem:
    refusal = failed.__cause__
    if isinstance(refusal, Exception) and type(refusal) in ENDINGS:
        return problem(refusal)
    return problem_of(failed)


def _named(request: Request) -> tuple[str, str]:
    return request.path_params["model"], request.path_params.get("version", "")


def _json_length(request: Request) -> int | None:
    given = request.headers.get(LENGTH_HEADER)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 16):
        raise InvalidInference(LENGTH_HEADER, "it is no length", "give the length of the JSON in bytes")
    return int(given)


def _described(model: ModelDescription) -> dict[str, Any]:
    def tensors(described: Sequence[TensorDescription]) -> list[dict[str, Any]]:
        return [{"name": each.name, "datatype": each.datatype, "shape": each.shape} for each in described]

    return {
        "name": model.name,
        "versions": model.versions,
        "platform": model.platform,
        "inputs": tensors(model.inputs),
        "outputs": tensors(model.outputs),
    }


def _json(body: object) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


def _yes_or_no(body: Mapping[str, Any]) -> Response:
    if body["ready"]:
        return _json(body)
    # The protocol wants a status between 400 and 499 for no.
    return Response(orjson.dumps({**body, "error": "not ready"}), 400, media_type="application/json")
