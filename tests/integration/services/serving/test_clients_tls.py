"""The platform's own clients, the check of readiness among them, reach serving that has certificates."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flywheel.adapters.grpc_client import ClientTls, client_tls
from flywheel.adapters.grpc_server.calls import Call, awaited
from flywheel.adapters.grpc_server.gates import OpenGate
from flywheel.client.decision_client import DecisionClient
from flywheel.client.errors import ServingUnreachable
from flywheel.contracts.proto.decision_pb2 import DecideRequest, DecideResponse
from flywheel.contracts.settings import PlatformSettings
from infra.local.readiness import GrpcServing
from services.serving.port.port import Port
from services.serving.settings import ServingSettings
from tests.certificates import Authority


async def answer(call: Call) -> bytes:
    request = DecideRequest.FromString(call.message)
    return DecideResponse(request_id=request.request_id).SerializeToString()


async def reached(settings: ServingSettings, *clients: ClientTls | None) -> list[bool]:
    """Whether serving with these settings answers each client, and the check of readiness says the same."""
    port = Port(settings, {"/flywheel.v1.Decisions/Decide": awaited(answer)}, OpenGate())
    address = f"127.0.0.1:{await port.bind()}"
    await port.open()
    try:
        return [await answers(address, tls) for tls in clients]
    finally:
        await port.close(1.0)


async def answers(address: str, tls: ClientTls | None) -> bool:
    client = DecisionClient(address, timeout_s=5, tls=tls)
    try:
        await client.decide("fraud", {}, "r1")
        answered = True
    except ServingUnreachable as error:
        answered = ("by TLS" if tls else "in plain text") not in str(error)
    finally:
        await client.close()
    assert await asyncio.to_thread(GrpcServing(address, tls)) == answered
    return answered


def serving(**files: Path) -> ServingSettings:
    named: dict[str, Any] = {f"serving_tls_{name}": path for name, path in files.items()}
    return ServingSettings(_env_file=None, serving_address="127.0.0.1:0", **named)


async def test_clients_that_know_the_authority_are_answered(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    server = authority.sign("server")
    settings = serving(certificate=server.certificate, key=server.key)
    clients = ClientTls(authority.certificate), ClientTls(other.certificate), None
    assert await reached(settings, *clients) == [True, False, False]


async def test_with_mutual_tls_clients_show_a_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client = authority.sign("server"), authority.sign("client")
    settings = serving(certificate=server.certificate, key=server.key, client_ca=authority.certificate)
    known = ClientTls(authority.certificate, client.certificate, client.key)
    assert await reached(settings, known, ClientTls(authority.certificate)) == [True, False]


async def test_the_certificate_of_the_page_on_serving_is_all_that_a_trial_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[4] / "docs" / "serving.md").read_text()
    command = next(block for block in page.split("```") if "openssl req" in block).removeprefix("sh\n")
    subprocess.run(["sh", "-ec", command], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.chdir(tmp_path)
    certificate, key = Path("data/tls/serving.pem"), Path("data/tls/serving.key")
    settings = serving(certificate=certificate, key=key, client_ca=certificate)
    own = PlatformSettings(
        _env_file=None, client_tls_ca=certificate, client_tls_certificate=certificate, client_tls_key=key
    )
    assert await reached(settings, client_tls(own), None) == [True, False]
