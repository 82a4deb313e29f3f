"""What gRPC's answers are over HTTP: messages as JSON, statuses as problems."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response

from flywheel.adapters.grpc_server.status import CallFailed, Refusal, Status
from flywheel.adapters.http_problem import FieldError, Problem
from flywheel.contracts.metadata import FIELD_ERRORS
from services.serving.port.gate import retry_after_s
from services.serving.rest.methods import Methods

_HTTP: Mapping[Status, HTTPStatus] = {
    Status.CANCELLED: HTTPStatus.SERVICE_UNAVAILABLE,
    Status.INVALID_ARGUMENT: HTTPStatus.UNPROCESSABLE_ENTITY,
    Status.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    Status.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Status.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    Status.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    Status.FAILED_PRECONDITION: HTTPStatus.CONFLICT,
    Status.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    Status.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Status.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
}
_TITLES: Mapping[Status, str] = {
    Status.INVALID_ARGUMENT: "The request is not valid",
    Status.DEADLINE_EXCEEDED: "There was no time for an answer",
    Status.NOT_FOUND: "There is no such thing",
    Status.RESOURCE_EXHAUSTED: "Too many requests at once",
    Status.UNAVAILABLE: "The service is not available",
}
_RETRIED = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


async def answered(
    methods: Methods, path: str, message: Message, answer: type[Message], request: Request, patience_s: float
) -> Response:
    """What the method at `path` says to the message, a message of the type `answer`. Raises Problem."""
    try:
        content = await methods.ask(path, dict(request.headers), message.SerializeToString(), patience_s)
    except CallFailed as failed:
        raise problem_of(failed) from failed
    found = answer()
    found.ParseFromString(content)
    return Response(orjson.dumps(as_json(found)), media_type="application/json")


def as_json(message: Message) -> dict[str, Any]:
    """All fields of a message under their own names; messages that are not there are left out.

    NaN stays a float, which JSON writers that know none make null.
    """
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            found[field.name] = {key: _plain(each) for key, each in value.items()}
        elif field.is_repeated:
            found[field.name] = [_plain(each) for each in value]
        elif not field.has_presence or message.HasField(field.name):
            found[field.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    return as_json(value) if isinstance(value, Message) else value


def problem_of(failed: CallFailed) -> Problem:
    """The same refusal over HTTP, with `Retry-After` where another try may end better."""
    status = _HTTP.get(failed.status, HTTPStatus.INTERNAL_SERVER_ERROR)
    kind = failed.status.name.lower().replace("_", "-")
    title = _TITLES.get(failed.status, status.phrase)
    refusal = Refusal(failed.status, failed.reason, failed.trailers)
    headers = {"Retry-After": str(retry_after_s(refusal) or 1)} if status in _RETRIED else {}
    wrong = orjson.loads(failed.trailers.get(FIELD_ERRORS, "[]"))
    return Problem(status, kind, title, failed.reason, [FieldError(**each) for each in wrong], headers=headers)
