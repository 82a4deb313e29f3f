"""TLS and mutual TLS with grpcio's clients, and certificates that change while the port is open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from flywheel.adapters.certificates import CertificateFiles, Certificates
from flywheel.adapters.grpc_server.server import GrpcServer
from tests.certificates import Authority, Signed, credentials
from tests.grpc_wire import PATH, echo


@asynccontextmanager
async def serving(certificates: Certificates) -> AsyncIterator[tuple[GrpcServer, int]]:
    server = GrpcServer({PATH: echo}, tls=certificates.context)
    port = await server.listen("127.0.0.1:0")
    try:
        yield server, port
    finally:
        await server.drain(1.0)


async def ask(port: int, authority: Authority, client: Signed | None = None, message: bytes = b"hello") -> bytes:
    """The echo over a connection of its own."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials(authority, client), options=options) as channel:
        return bytes(await channel.unary_unary(PATH)(message, timeout=10))


async def refused(port: int, authority: Authority, client: Signed | None = None) -> bool:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(port, authority, client)
    return caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_messages_go_over_tls_and_not_in_plain(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    signed = authority.sign("server")
    async with serving(Certificates(CertificateFiles(signed.certificate, signed.key))) as (_, port):
        large = b"x" * 3_000_000
        assert await ask(port, authority, message=large) == large
        assert await refused(port, Authority(tmp_path, "stranger"))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary(PATH)(b"", timeout=2)
        assert await ask(port, authority) == b"hello"


async def test_mutual_tls_admits_only_whom_the_authority_signed(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    signed, client = authority.sign("server"), authority.sign("client")
    files = CertificateFiles(signed.certificate, signed.key, authority.certificate)
    async with serving(Certificates(files)) as (_, port):
        assert await ask(port, authority, client) == b"hello"
        assert await refused(port, authority)
        assert await refused(port, authority, stranger.sign("intruder"))


async def test_a_new_certificate_serves_new_connections_while_old_ones_go_on(tmp_path: Path) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    signed = old.sign("server")
    certificates = Certificates(CertificateFiles(signed.certificate, signed.key))
    async with serving(certificates) as (server, port):
        credentials = grpc.ssl_channel_credentials(old.certificate.read_bytes())
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
            method = channel.unary_unary(PATH)
            assert await method(b"a", timeout=10) == b"a"
            new.sign("server")
            assert certificates.refresh()
            server.tls = certificates.context
            assert await ask(port, new) == b"hello"
            assert await refused(port, old)
            assert await method(b"b", timeout=10) == b"b"
