"""An app is served beside the loop's other work, from `start` until `stop`, which lets requests finish."""

from __future__ import annotations

import asyncio
import signal

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from flywheel.adapters.http_server import HttpServer


class Slow:
    """Answers once it is told to."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        self.entered.set()
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


async def test_requests_under_way_are_answered_and_no_more() -> None:
    app = Slow()
    server = HttpServer(app, grace_s=5)
    url = f"http://127.0.0.1:{server.bind('127.0.0.1:0')}/"
    handler = signal.getsignal(signal.SIGTERM)
    await server.start()
    assert signal.getsignal(signal.SIGTERM) is handler
    async with httpx.AsyncClient() as client:
        asked = asyncio.create_task(client.get(url))
        await app.entered.wait()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        app.may_answer.set()
        assert (await asked).status_code == 204
        await stopping
        with pytest.raises(httpx.ConnectError):
            await client.get(url)


async def test_a_taken_address_is_told_at_once_and_a_server_that_never_ran_frees_its_own() -> None:
    first, second = HttpServer(Slow(), grace_s=1), HttpServer(Slow(), grace_s=1)
    port = first.bind("127.0.0.1:0")
    await first.start()
    with pytest.raises(OSError, match="in use"):
        second.bind(f"127.0.0.1:{port}")
    await second.stop()
    await first.stop()
    third = HttpServer(Slow(), grace_s=1)
    assert third.bind(f"127.0.0.1:{port}") == port
    await third.stop()
    await third.stop()
