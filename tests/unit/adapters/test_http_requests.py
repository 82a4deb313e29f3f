"""The boundary around requests bounds them and leaves no error bare."""

from __future__ import annotations

import asyncio

import httpx
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from flywheel.adapters.http_requests import RequestBoundary


class App:
    """Answers once it may; breaks on /broken."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/broken":
            raise RuntimeError("a secret")
        if scope["path"] == "/slow":
            self.entered.set()
            await self.may_answer.wait()
        await PlainTextResponse(scope["state"]["request_id"])(scope, receive, send)


def client_of(app: App, max_requests: int) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=RequestBoundary(app, max_requests))
    return httpx.AsyncClient(transport=transport, base_url="http://app")


async def test_one_request_too_many_is_refused_and_health_is_not() -> None:
    app = App()
    async with client_of(app, max_requests=1) as client:
        slow = asyncio.create_task(client.get("/slow"))
        await app.entered.wait()
        refused = await client.get("/other")
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert (await client.get("/healthz")).status_code == 200
        app.may_answer.set()
        assert (await slow).status_code == 200
        assert (await client.get("/other")).status_code == 200


async def test_an_unforeseen_error_becomes_a_problem_without_its_text() -> None:
    async with client_of(App(), max_requests=1) as client:
        answer = await client.get("/broken", headers={"X-Request-Id": "r-9"})
        assert answer.status_code == 500
        assert answer.json()["detail"].endswith("r-9")
        assert "secret" not in answer.text
        assert (await client.get("/after")).status_code == 200
