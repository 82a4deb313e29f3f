"""Routes that ask a gRPC method about a subject: JSON in, the method's own answer as JSON out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response

from flywheel.adapters import http_problem
from flywheel.adapters.http_bodies import check_json
from flywheel.adapters.http_problem import FieldError, Problem
from services.serving.rest.answers import answered
from services.serving.rest.calls import TIMEOUT_HEADER, Calls
from services.serving.rest.methods import Methods

REF = "#/components/schemas/"
_MEANINGS = {
    "404": "There is no such use case here.",
    "413": "The body is too large.",
    "415": "The body is no JSON, or compressed.",
    "422": "What was sent is not valid; `errors` names all that is wrong.",
    "429": "Too many requests; `Retry-After` says when to come back.",
    "504": "There was no time for an answer.",
}


@dataclass(frozen=True)
class SubjectRoute:
    """`POST /v1/usecases/{usecase}/<name>`, answered by the gRPC method at `method`."""

    name: str
    method: str
    message: Callable[[Request, bytes], Message]
    """What the method is asked with, from a request and its body. Raises Problem."""
    answer: type[Message]
    summary: str
    description: str
    schema: str
    """Of the body, by its name as a component."""
    found: str
    """What the answer is."""
    parameters: Sequence[Mapping[str, Any]] = ()


def subject_routes(route: SubjectRoute, methods: Methods, calls: Calls) -> APIRouter:
    """A router of that route alone."""
    router = APIRouter(tags=["Decisions"])

    async def ask(request: Request) -> Response:
        check_json(request)
        patience_s = calls.patience_s(request)
        message = route.message(request, await calls.subject(request))
        return await answered(methods, route.method, message, route.answer, request, patience_s)

    router.add_api_route(
        f"/v1/usecases/{{usecase}}/{route.name}",
        ask,
        methods=["POST"],
        summary=route.summary,
        openapi_extra=_operation(route),
    )
    return router


def invalid(wrong: FieldError) -> Problem:
    """How a request is refused that is not valid in that field."""
    return Problem(422, "invalid-argument", "The request is not valid", f"see {wrong.field}", [wrong])


def _operation(route: SubjectRoute) -> dict[str, Any]:
    problem = {http_problem.MEDIA_TYPE: {"schema": {"$ref": f"{REF}Problem"}}}
    timeout = {"name": TIMEOUT_HEADER, "in": "header", "required": False, "schema": {"type": "number"}}
    return {
        "description": route.description,
        "parameters": [*route.parameters, timeout],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"{REF}{route.schema}"}}},
        },
        "responses": {
            "200": {"description": route.found},
            **{status: {"description": meaning, "content": problem} for status, meaning in _MEANINGS.items()},
        },
    }
