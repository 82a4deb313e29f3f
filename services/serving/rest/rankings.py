"""Rankings over HTTP: context and candidates as JSON in, the answer of the gRPC method as JSON out."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from flywheel.adapters.http_bodies import check_json
from flywheel.adapters.http_problem import FieldError, Problem
from flywheel.contracts.proto.ranking_pb2 import RankRequest, RankResponse
from services.serving.rankings.servicer import RANK
from services.serving.rest.answers import answered
from services.serving.rest.calls import TIMEOUT_HEADER, Calls
from services.serving.rest.decisions import REF, refusals
from services.serving.rest.methods import Methods


class RankingBody(BaseModel):
    """What is to be ranked: the subject without its candidate field, and the candidates, the caller's best first."""

    model_config = ConfigDict(extra="forbid", strict=True)

    subject: dict[str, Any]
    candidates: list[str]
    keep: int = Field(default=0, ge=0, lt=2**32)
    """How many to show at most; 0 for as many as are declared."""


def ranking_routes(methods: Methods, calls: Calls) -> APIRouter:
    """`POST /v1/usecases/{usecase}/rankings`."""
    router = APIRouter(tags=["Decisions"])

    async def rank(request: Request) -> Response:
        check_json(request)
        patience_s = calls.patience_s(request)
        body = _parsed(await calls.subject(request))
        asked = RankRequest(
            usecase=request.path_params["usecase"],
            # Unlike orjson it writes integers of any size, which are for the declaration to refuse.
            subject=json.dumps(body.subject).encode(),
            request_id=request.state.request_id,
            candidates=body.candidates,
            keep=body.keep,
        )
        return await answered(methods, RANK, asked, RankResponse, request, patience_s)

    router.add_api_route(
        "/v1/usecases/{usecase}/rankings",
        rank,
        methods=["POST"],
        summary="Rank candidates for one context",
        openapi_extra={
            "description": "The same ranking as over gRPC, logged alike.",
            "parameters": [
                {"name": TIMEOUT_HEADER, "in": "header", "required": False, "schema": {"type": "number"}},
            ],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": f"{REF}RankingBody"}}},
            },
            "responses": {"200": {"description": "The best candidates, in order."}, **refusals()},
        },
    )
    return router


def ranking_schemas() -> dict[str, Any]:
    """The schema of a body, by its name as a component."""
    return {"RankingBody": RankingBody.model_json_schema(ref_template=REF + "{model}")}


def _parsed(body: bytes) -> RankingBody:
    try:
        return RankingBody.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(step) for step in first["loc"])[:64] or "body"
        details = [FieldError(field, first["msg"], "see /docs for what is expected")]
        raise Problem(422, "invalid-argument", "The request is not valid", f"see {field}", details) from None
