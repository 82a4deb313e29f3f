"""Around every HTTP request: an id that is logged and returned, a bound on how many run at once, no bare 500."""

from __future__ import annotations

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flywheel.adapters.http_problem import Finish, Problem, unchanged
from flywheel.adapters.logs import logger
from flywheel.adapters.request_ids import admitted

_HEADER = b"x-request-id"
_UNBOUNDED = frozenset({"/healthz", "/readyz", "/metrics"})

_log = logger(__name__)


class RequestBoundary:
    """ASGI middleware. The request's id, the client's own where it is well-formed, is `request.state.request_id`.

    Beyond `max_requests` at once a request is refused with 503, health and metrics excepted; an unforeseen error
    is logged with its trace and answered with a problem that tells nothing of it but the id.
    """

    def __init__(self, app: ASGIApp, max_requests: int, finish: Finish = unchanged) -> None:
        self._app = app
        self._max_requests = max_requests
        self._finish = finish
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = admitted(_given_id(scope))
        scope.setdefault("state", {})["request_id"] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            self._running += 1
            try:
                await self._guard(scope, receive, _Answer(send, request_id))
            finally:
                self._running -= 1

    async def _guard(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        if self._running > self._max_requests and scope["path"] not in _UNBOUNDED:
            await self._refuse(_too_many(self._max_requests), scope, receive, answer)
            return
        try:
            await self._app(scope, receive, answer)
        except Exception:
            _log.exception("request_failed", path=scope["path"])
            if answer.started:
                raise
            await self._refuse(_internal(answer.request_id), scope, receive, answer)

    async def _refuse(self, problem: Problem, scope: Scope, receive: Receive, answer: _Answer) -> None:
        await self._finish(scope["path"], problem).to_response()(scope, receive, answer)


class _Answer:
    """Passes an answer on, with the request's id among its headers."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            message["headers"] = [*message.get("headers", ()), (_HEADER, self.request_id.encode())]
        await self._send(message)


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == _HEADER:
            return str(value.decode("latin-1"))
    return None


def _too_many(limit: int) -> Problem:
    return Problem(
        503, "overloaded", "Too many requests at once", f"{limit} requests run already", headers={"Retry-After": "1"}
    )


def _internal(request_id: str) -> Problem:
    return Problem(500, "internal", "Internal error", f"the logs tell more under request id {request_id}")
