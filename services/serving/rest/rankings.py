"""Rankings over HTTP: context and candidates as JSON in, the answer of the gRPC method as JSON out."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from flywheel.adapters.http_problem import FieldError
from flywheel.contracts.proto.ranking_pb2 import RankRequest, RankResponse
from services.serving.rankings.servicer import RANK
from services.serving.rest.routes import REF, SubjectRoute, invalid


class RankingBody(BaseModel):
    """What is to be ranked: the subject without its candidate field, and the candidates, the caller's best first."""

    model_config = ConfigDict(extra="forbid", strict=True)

    subject: dict[str, Any]
    candidates: list[str]
    keep: int = Field(default=0, ge=0, lt=2**32)
    """How many to show at most; 0 for as many as are declared."""


def ranking_route() -> SubjectRoute:
    """`POST /v1/usecases/{usecase}/rankings`."""
    return SubjectRoute(
        name="rankings",
        method=RANK,
        message=_message,
        answer=RankResponse,
        summary="Rank candidates for one context",
        description="The same ranking as over gRPC, logged alike.",
        schema=RankingBody.__name__,
        found="The best candidates, in order.",
    )


def ranking_schemas() -> dict[str, Any]:
    """The schema of a body, by its name as a component."""
    return {RankingBody.__name__: RankingBody.model_json_schema(ref_template=REF + "{model}")}


def _message(request: Request, body: bytes) -> RankRequest:
    asked = _parsed(body)
    return RankRequest(
        usecase=request.path_params["usecase"],
        # Unlike orjson it writes integers of any size, which are for the declaration to refuse.
        subject=json.dumps(asked.subject).encode(),
        request_id=request.state.request_id,
        candidates=asked.candidates,
        keep=asked.keep,
    )


def _parsed(body: bytes) -> RankingBody:
    try:
        return RankingBody.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(step) for step in first["loc"])[:64] or "body"
        raise invalid(FieldError(field, first["msg"], "see /docs for what is expected")) from None
