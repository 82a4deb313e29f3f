"""Decisions over HTTP: the subject as JSON in, the answer of the gRPC method as JSON out."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from flywheel.adapters import http_problem
from flywheel.adapters.http_bodies import check_json
from flywheel.adapters.http_problem import FieldError, Problem
from flywheel.contracts.proto.decision_pb2 import DecideRequest, DecideResponse
from flywheel.kernel.declaration import UseCase
from services.serving.rest.answers import answered
from services.serving.rest.calls import TIMEOUT_HEADER, Calls
from services.serving.rest.methods import Methods

DECIDE = "/flywheel.v1.Decisions/Decide"
REF = "#/components/schemas/"
_MAX_EXPLAINED = 1_000
_MEANINGS = {
    "404": "There is no such use case here.",
    "413": "The body is too large.",
    "415": "The body is no JSON, or compressed.",
    "422": "What was sent is not valid; `errors` names all that is wrong.",
    "429": "Too many requests; `Retry-After` says when to come back.",
    "504": "There was no time for an answer.",
}


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
        return await answered(methods, DECIDE, asked, DecideResponse, request, patience_s)

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
    _, found = models_json_schema([(usecase.request, "validation")], ref_template=REF + "{model}")
    definitions: dict[str, Any] = found["$defs"]
    return definitions


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
            "content": {"application/json": {"schema": {"$ref": f"{REF}{usecase.request.__name__}"}}},
        },
        "responses": {
            "200": {"description": "The decision."},
            **refusals(),
        },
    }


def refusals() -> dict[str, Any]:
    """How requests for decisions are refused, for OpenAPI documents."""
    problem = {http_problem.MEDIA_TYPE: {"schema": {"$ref": f"{REF}Problem"}}}
    return {status: {"description": meaning, "content": problem} for status, meaning in _MEANINGS.items()}
