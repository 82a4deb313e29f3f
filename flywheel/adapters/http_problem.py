"""Refusals over HTTP as problem details (RFC 9457): what is wrong, where, and how to put it right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "A stable name of the kind of problem."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened this time."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "reason", "hint"],
                "properties": {
                    "field": {"type": "string"},
                    "reason": {"type": "string"},
                    "hint": {"type": "string"},
                },
            },
        },
    },
}
"""JSON schema of a problem, for OpenAPI documents."""


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field, and what would be right. Never holds the value itself."""

    field: str
    reason: str
    hint: str

    def to_dict(self) -> dict[str, str]:
        return {"field": self.field, "reason": self.reason, "hint": self.hint}


@dataclass(eq=False)
class Problem(Exception):
    """A refusal, raised or returned; `kind` is its stable name, `extra` further members of the body."""

    status: int
    kind: str
    title: str
    detail: str
    errors: Sequence[FieldError] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "type": f"urn:flywheel:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            body["errors"] = [error.to_dict() for error in self.errors]
        return {**body, **self.extra}

    def to_response(self) -> Response:
        return Response(orjson.dumps(self.to_dict()), self.status, dict(self.headers), MEDIA_TYPE)


Finish = Callable[[str, Problem], Problem]
"""The problem as it is sent from below a path: what is spoken there may want further members."""


def unchanged(_: str, problem: Problem) -> Problem:
    """The problem itself."""
    return problem


def handle_problems(app: FastAPI, finish: Finish = unchanged) -> None:
    """The app answers every refusal as a problem: its own, the router's 404 and 405, a client that went away."""

    async def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return finish(request.url.path, error).to_response()

    async def translate(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return finish(request.url.path, _translated(request, error)).to_response()

    app.add_exception_handler(Problem, answer)
    app.add_exception_handler(HTTPException, translate)
    app.add_exception_handler(ClientDisconnect, _nobody)


def _translated(request: Request, error: HTTPException) -> Problem:
    title = HTTPStatus(error.status_code).phrase
    detail = error.detail if error.detail != title else f"{request.method} {request.url.path}: {title.lower()}"
    kind = title.lower().replace(" ", "-")
    return Problem(error.status_code, kind, title, detail, headers=error.headers or {})


async def _nobody(_: Request, __: Exception) -> Response:
    return Response(status_code=HTTPStatus.BAD_REQUEST)
