"""Decisions over HTTP: the subject as JSON in, the answer of the gRPC method as JSON out."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter
from google.protobuf.message import Message
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from flywheel.adapters import http_problem
from flywheel.adapters.grpc_server.status import CallFailed
from flywheel.adapters.http_bodies import check_json
from flywheel.adapters.http_problem import FieldError, Problem
from flywheel.contracts.proto.decision_pb2 import DecideRequest, DecideResponse
from flywheel.kernel.declaration import UseCase
from services.serving.http_calls import Methods
from services.serving.rest_calls import TIMEOUT_HEADER, Calls
from services.serving.rest_statuses import problem_of

_DECIDE = "/flywheel.v1.Decisions/Decide"
_REF = "#/components/schemas/"
_MAX_EXPLAINED = 1_000


def decision_routes(usecase: UseCase, methods: Methods, calls: Calls) -> APIRouter:
    """`POST /v1/usecases/{usecase}/decisions`."""
    router = APIRouter(tags=["Decisions"])

    async def decide(request: Request) -> Response:
        check_json(request)
        patience_s = calls.patience_s(request)
        asked = DecideRequest(
            usecase=request.path_params["usecase"],
            subject=await calls.subject(request),
            request_id=request.state.request_id,
            **_wishes(request),
        )
        try:
            answer = await methods.ask(_DECIDE, dict(request.headers), asked.SerializeToString(), patience_s)
        except CallFailed as failed:
            raise problem_of(failed) from failed
        return Response(orjson.dumps(as_json(DecideResponse.FromString(answer))), media_type="application/json")

    router.add_api_route(
        "/v1/usecases/{usecase}/decisions",
        decide,
        methods=["POST"],
        summary="Decide about one subject",
        openapi_extra=_operation(usecase),
    )
    return router


def decision_schemas(usecase: UseCase) -> dict[str, Any]:
    """The schemas of subjects, by their names as components."""
    _, found = models_json_schema([(usecase.request, "validation")], ref_template=_REF + "{model}")
    definitions: dict[str, Any] = found["$defs"]
    return definitions


def as_json(message: Message) -> dict[str, Any]:
    """All fields of a message under their own names; messages that are not there are left out.

    NaN stays a float, which JSON writers that know none make null.
    """
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            found[field.name] = dict(value)
        elif field.is_repeated:
            found[field.name] = [as_json(each) if isinstance(each, Message) else each for each in value]
        elif not isinstance(value, Message):
            found[field.name] = value
        elif message.HasField(field.name):
            found[field.name] = as_json(value)
    return found


def _wishes(request: Request) -> dict[str, Any]:
    """What is asked for beside the decision, by the names of the message's fields. Raises Problem."""
    given = dict(request.query_params)
    explain, omit = given.pop("explain", "0"), given.pop("omit_features", "false")
    if not (explain.isascii() and explain.isdigit() and len(explain) < 6 and int(explain) <= _MAX_EXPLAINED):
        raise _unknown("explain", "it is no number of features", f"send 0 to {_MAX_EXPLAINED}")
    if omit not in ("true", "false"):
        raise _unknown("omit_features", "it is neither true nor false", "send one of them")
    for name in given:
        raise _unknown(name[:64], "it is not known", "explain and omit_features are")
    return {"explain": int(explain), "omit_features": omit == "true"}


def _unknown(field: str, reason: str, hint: str) -> Problem:
    return Problem(
        422, "invalid-argument", "The request is not valid", f"see {field}", [FieldError(field, reason, hint)]
    )


def _operation(usecase: UseCase) -> dict[str, Any]:
    problem = {http_problem.MEDIA_TYPE: {"schema": {"$ref": f"{_REF}Problem"}}}
    return {
        "description": "The same decision as over gRPC, logged alike. `explain` asks for so many contributions, "
        f"`omit_features` makes the answer smaller; `{TIMEOUT_HEADER}` says how long you wait, which never makes the "
        "declared budget longer.",
        "parameters": [
            {"name": "explain", "in": "query", "required": False, "schema": {"type": "integer", "minimum": 0}},
            {"name": "omit_features", "in": "query", "required": False, "schema": {"type": "boolean"}},
            {"name": TIMEOUT_HEADER, "in": "header", "required": False, "schema": {"type": "number"}},
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"{_REF}{usecase.request.__name__}"}}},
        },
        "responses": {
            "200": {"description": "The decision."},
            "422": {"description": "The subject is not valid; `detail` names what is wrong.", "content": problem},
            "429": {"description": "Too many requests; `Retry-After` says when to come back.", "content": problem},
            "504": {"description": "There was no time for an answer.", "content": problem},
        },
    }
