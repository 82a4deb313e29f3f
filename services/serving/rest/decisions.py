"""Decisions over HTTP: the subject as JSON in, the answer of the gRPC method as JSON out."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema
from starlette.requests import Request

from flywheel.adapters.http_problem import FieldError, Problem
from flywheel.contracts.proto.decision_pb2 import DecideRequest, DecideResponse
from flywheel.kernel.declaration import UseCase
from services.serving.rest.calls import TIMEOUT_HEADER
from services.serving.rest.routes import REF, SubjectRoute, invalid

DECIDE = "/flywheel.v1.Decisions/Decide"
_MAX_EXPLAINED = 1_000


def decision_route(usecase: UseCase) -> SubjectRoute:
    """`POST /v1/usecases/{usecase}/decisions`."""
    return SubjectRoute(
        name="decisions",
        method=DECIDE,
        message=_message,
        answer=DecideResponse,
        summary="Decide about one subject",
        description="The same decision as over gRPC, logged alike. `explain` asks for so many contributions, "
        f"`omit_features` makes the answer smaller; `{TIMEOUT_HEADER}` says how long you wait, which never makes the "
        "declared budget longer.",
        schema=usecase.request.__name__,
        found="The decision.",
        parameters=(
            {"name": "explain", "in": "query", "required": False, "schema": {"type": "integer", "minimum": 0}},
            {"name": "omit_features", "in": "query", "required": False, "schema": {"type": "boolean"}},
        ),
    )


def decision_schemas(usecase: UseCase) -> dict[str, Any]:
    """The schemas of subjects, by their names as components."""
    _, found = models_json_schema([(usecase.request, "validation")], ref_template=REF + "{model}")
    definitions: dict[str, Any] = found["$defs"]
    return definitions


def _message(request: Request, body: bytes) -> DecideRequest:
    return DecideRequest(
        usecase=request.path_params["usecase"],
        subject=body,
        request_id=request.state.request_id,
        **_wishes(request),
    )


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
    return invalid(FieldError(field, reason, hint))
