"""Which certificates a client uses, and what it says of those that it cannot use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flywheel.adapters.grpc_client import ClientTls, UnusableTls, client_tls
from flywheel.contracts.settings import PlatformSettings
from infra.local.readiness import GrpcServing
from tests.certificates import Authority


def settings_of(**changes: Any) -> PlatformSettings:
    return PlatformSettings(_env_file=None, **changes)


def test_without_a_setting_clients_speak_plain_text() -> None:
    assert client_tls(settings_of()) is None


def test_certificates_that_are_set_are_used(tmp_path: Path) -> None:
    authority, client = Authority(tmp_path), Authority(tmp_path).sign("client")
    tls = client_tls(settings_of(client_tls_ca=authority.certificate))
    assert tls == ClientTls(authority.certificate)
    assert tls.credentials()
    assert ClientTls(authority.certificate, client.certificate, client.key).credentials()


def test_half_of_what_tls_needs_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    client = authority.sign("client")
    for changes in (
        {"client_tls_certificate": client.certificate, "client_tls_key": client.key},
        {"client_tls_ca": authority.certificate, "client_tls_key": client.key},
    ):
        tls = client_tls(settings_of(**changes))
        assert tls
        with pytest.raises(UnusableTls, match="FLYWHEEL_CLIENT_TLS_CA"):
            tls.credentials()


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    client, other = authority.sign("client"), authority.sign("other")
    with pytest.raises(UnusableTls, match=r"none\.pem"):
        ClientTls(tmp_path / "none.pem").credentials()
    with pytest.raises(UnusableTls, match=r"other\.key"):
        ClientTls(authority.certificate, client.certificate, other.key).credentials()


def test_a_readiness_check_says_how_it_asks_and_why_it_cannot(tmp_path: Path) -> None:
    assert "plain text" in str(GrpcServing("127.0.0.1:1"))
    assert str(GrpcServing("127.0.0.1:1", ClientTls(Authority(tmp_path).certificate))).endswith("by TLS")
    unusable = GrpcServing("127.0.0.1:1", ClientTls(tmp_path / "none.pem"))
    assert not unusable()
    assert "none.pem" in unusable.detail()
    assert "none.pem" in str(unusable)
