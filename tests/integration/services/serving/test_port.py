"""The port with certificates that settings name: used, renewed while it is open, and told before they expire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from flywheel.adapters.grpc_server.calls import Call, awaited
from flywheel.adapters.grpc_server.gates import OpenGate
from flywheel.contracts.proto.decision_pb2 import DecideBatchRequest
from services.serving.port import port as module
from services.serving.port.port import CannotServe, Port
from services.serving.settings import ServingSettings
from tests.certificates import Authority, Signed, credentials
from tests.grpc_wire import PATH, echo
from tests.serving_parts import payment


def settings_of(**changes: Any) -> ServingSettings:
    return ServingSettings(_env_file=None, serving_address="127.0.0.1:0", **changes)


def secured(signed: Signed, authority: Authority | None = None) -> ServingSettings:
    return settings_of(
        serving_tls_certificate=signed.certificate,
        serving_tls_key=signed.key,
        serving_tls_client_ca=authority.certificate if authority else None,
    )


@asynccontextmanager
async def opened(settings: ServingSettings) -> AsyncIterator[int]:
    port = Port(settings, {PATH: echo}, OpenGate())
    number = await port.bind()
    await port.open()
    try:
        yield number
    finally:
        await port.close(1.0)


async def healthy(port: int, authority: Authority, client: Signed | None = None) -> bool:
    """Whether a client that trusts that authority gets through, on a connection of its own."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials(authority, client), options=options) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            found = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        except grpc.aio.AioRpcError:
            return False
        return bool(found.status == health_pb2.HealthCheckResponse.SERVING)


async def test_callers_need_a_certificate_where_settings_say_so(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with opened(secured(authority.sign("server"))) as port:
        assert await healthy(port, authority)
    async with opened(secured(authority.sign("server"), authority)) as port:
        assert await healthy(port, authority, authority.sign("client"))
        assert not await healthy(port, authority)


async def test_a_renewed_certificate_is_used_and_one_about_to_expire_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CERTIFICATE_CHECK_S", 0.02)
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")

    def days() -> float:
        return REGISTRY.get_sample_value("flywheel_serving_certificate_days") or 0.0

    with capture_logs() as lines:
        async with opened(secured(old.sign("server", datetime.now(UTC) + timedelta(days=3)))) as port:
            assert await healthy(port, old)
            assert 2.9 < days() <= 3.0
            new.sign("server", datetime.now(UTC) + timedelta(days=90))
            async with asyncio.timeout(10):
                while days() < 80:
                    await asyncio.sleep(0.01)
            assert await healthy(port, new)
            assert not await healthy(port, old)
    # Once, not at every look.
    assert [line["days"] for line in lines if line["event"] == "certificate_expires"] == [3.0]


async def test_certificates_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    signed = authority.sign("server")
    with pytest.raises(CannotServe, match="FLYWHEEL_SERVING_TLS_KEY"):
        Port(settings_of(serving_tls_certificate=signed.certificate), {PATH: echo}, OpenGate())
    signed.key.write_text("nothing")
    with pytest.raises(CannotServe, match=r"server\.key"):
        Port(secured(signed), {PATH: echo}, OpenGate())


async def test_a_thousand_subjects_fit_into_a_batch_and_into_nothing_else() -> None:
    async def count(call: Call) -> bytes:
        return str(len(call.message)).encode()

    paths = ["/flywheel.v1.Decisions/DecideBatch", "/flywheel.v1.Decisions/Decide"]
    port = Port(settings_of(), {path: awaited(count) for path in paths}, OpenGate())
    number = await port.bind()
    await port.open()
    batch = DecideBatchRequest(usecase="fraud", subjects=[payment()] * 1_000).SerializeToString()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{number}") as channel:
            answered = await channel.unary_unary(paths[0])(batch, timeout=10)
            assert int(answered) == len(batch) > settings_of().serving_max_subject_bytes
            with pytest.raises(grpc.aio.AioRpcError, match="RESOURCE_EXHAUSTED"):
                await channel.unary_unary(paths[1])(batch, timeout=10)
    finally:
        await port.close(1.0)
