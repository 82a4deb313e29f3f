"""An app is served beside the loop's other work, from `start` until `stop`, which lets requests finish."""

from __future__ import annotations

import asyncio
import signal
import ssl
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from flywheel.adapters import http_server
from flywheel.adapters.certificates import CertificateFiles, Certificates
from flywheel.adapters.http_server import HttpServer
from tests.certificates import Authority, Signed


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


async def serial(port: int, authority: Authority, client: Signed | None = None, offered: str = "h2") -> bytes:
    """The certificate that the server shows to a connection that it answers over HTTP/1.1."""
    context = ssl.create_default_context(cafile=authority.certificate)
    context.set_alpn_protocols([offered, "http/1.1"])
    if client:
        context.load_cert_chain(client.certificate, client.key)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 204")
        shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return shown
    finally:
        writer.close()


def answering() -> Slow:
    app = Slow()
    app.may_answer.set()
    return app


async def test_certificates_are_shown_asked_for_and_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "_CERTIFICATE_CHECK_S", 0.01)
    authority = Authority(tmp_path)
    signed, client = authority.sign("server"), authority.sign("client")
    files = CertificateFiles(signed.certificate, signed.key, client_ca=authority.certificate)
    server = HttpServer(answering(), grace_s=1, certificates=Certificates(files, "http/1.1"))
    port = server.bind("127.0.0.1:0")
    await server.start()
    try:
        first = await serial(port, authority, client)
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            await serial(port, authority)
        authority.sign("server")
        async with asyncio.timeout(10):
            while await serial(port, authority, client) == first:
                await asyncio.sleep(0.01)
        signed.key.write_text("broken")
        await asyncio.sleep(0.05)
        assert await serial(port, authority, client) != first
    finally:
        await server.stop()
