"""How a call that failed ends over HTTP: gRPC's statuses as problems."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from flywheel.adapters.grpc_server.status import CallFailed, Refusal, Status
from flywheel.adapters.http_problem import Problem
from services.serving.gate import retry_after_s

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


def problem_of(failed: CallFailed) -> Problem:
    """The same refusal over HTTP, with `Retry-After` where another try may end better."""
    status = _HTTP.get(failed.status, HTTPStatus.INTERNAL_SERVER_ERROR)
    kind = failed.status.name.lower().replace("_", "-")
    title = _TITLES.get(failed.status, status.phrase)
    refusal = Refusal(failed.status, failed.reason, failed.trailers)
    headers = {"Retry-After": str(retry_after_s(refusal) or 1)} if status in _RETRIED else {}
    return Problem(status, kind, title, failed.reason, headers=headers)
