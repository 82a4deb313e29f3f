"""Channels to a gRPC server, in plain text or by TLS, as the settings of clients say."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from flywheel.contracts.settings import PlatformSettings

Options = Sequence[tuple[str, str | int]]


class UnusableTls(Exception):
    """A client's certificates cannot be used; the message says which and why."""


@dataclass(frozen=True)
class ClientTls:
    """What a client trusts and, where a server asks for it, who the client is; all files are PEM."""

    ca: Path | None
    certificate: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Made of the files as they are now. Raises UnusableTls."""
        if self.ca is None or (self.certificate is None) != (self.key is None):
            raise UnusableTls(
                "TLS needs FLYWHEEL_CLIENT_TLS_CA, and a client's certificate both FLYWHEEL_CLIENT_TLS_CERTIFICATE "
                "and FLYWHEEL_CLIENT_TLS_KEY"
            )
        try:
            _check(self.ca, self.certificate, self.key)
            return grpc.ssl_channel_credentials(
                self.ca.read_bytes(),
                self.key.read_bytes() if self.key else None,
                self.certificate.read_bytes() if self.certificate else None,
            )
        except OSError as error:
            # ssl.SSLError is an OSError as well.
            named = ", ".join(str(path) for path in (self.ca, self.certificate, self.key) if path)
            raise UnusableTls(f"{named} cannot be used: {error}") from error


def client_tls(settings: PlatformSettings) -> ClientTls | None:
    """How clients speak to serving: by TLS, or (None) in plain text."""
    ca, certificate, key = settings.client_tls_ca, settings.client_tls_certificate, settings.client_tls_key
    return ClientTls(ca, certificate, key) if ca or certificate or key else None


def open_channel(address: str, tls: ClientTls | None, options: Options = ()) -> grpc.Channel:
    """A channel for threads. Raises UnusableTls."""
    if tls is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, tls.credentials(), options=options)


def open_async_channel(address: str, tls: ClientTls | None, options: Options = ()) -> grpc.aio.Channel:
    """A channel for the running event loop. Raises UnusableTls."""
    if tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, tls.credentials(), options=options)


def _check(ca: Path, certificate: Path | None, key: Path | None) -> None:
    # gRPC itself takes anything and then only says that there is no connection.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    if certificate:
        context.load_cert_chain(certificate, key, password="")
