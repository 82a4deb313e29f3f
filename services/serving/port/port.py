"""The gRPC port of serving: its methods with health and reflection, its limits, its certificates."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from flywheel.adapters.certificates import CertificateFiles, Certificates, InvalidCertificates
from flywheel.adapters.grpc_server.calls import PortGate, Unary
from flywheel.adapters.grpc_server.health import HEALTH, Health
from flywheel.adapters.grpc_server.limits import Limits
from flywheel.adapters.grpc_server.reflection import reflection
from flywheel.adapters.grpc_server.server import GrpcServer
from flywheel.adapters.listener import bound
from flywheel.adapters.logs import logger
from flywheel.contracts.metrics import SERVING_CERTIFICATE_DAYS
from services.serving.decisions.servicer import DECIDE_BATCH
from services.serving.inference.methods import INFER
from services.serving.settings import ServingSettings

_CERTIFICATE_CHECK_S = 5.0
_WARNED_DAYS = 14
_WARN_EVERY_S = 3600.0
_log = logger(__name__)


class CannotServe(Exception):
    """The address or the certificates cannot be had; the message says what to do."""


class Port:
    """Where callers come in. Make it on its event loop; `bind`, `open`, `close`, once each and in that order.

    One that is not bound takes the connections that it is given.
    """

    def __init__(
        self,
        settings: ServingSettings,
        unary: Mapping[str, Unary],
        gate: PortGate,
        on_closed: Callable[[], object] = lambda: None,
    ) -> None:
        services = services_of(unary)
        self._settings = settings
        self._certificates = certificates_of(settings)
        self._health = Health([*services, HEALTH])
        limits = Limits(
            age_s=settings.serving_connection_age_s or math.inf,
            message_bytes=settings.serving_max_subject_bytes,
            message_bytes_of={
                INFER: settings.serving_inference_max_bytes,
                DECIDE_BATCH: settings.serving_max_batch_bytes,
            },
        )
        self._server = GrpcServer(
            {**unary, **self._health.unary()},
            {**self._health.streaming(), **reflection([*services, HEALTH])},
            gate=gate,
            limits=limits,
            tls=self._certificates.context if self._certificates else None,
            on_closed=on_closed,
        )
        self._bound: socket.socket | None = None
        self._watching: asyncio.Task[None] | None = None

    async def bind(self) -> int:
        """Has the address, so that callers wait; the port. Raises CannotServe when it is taken."""
        self._bound = await listening(self._settings)
        return int(self._bound.getsockname()[1])

    async def open(self) -> None:
        """Answers from now on."""
        if self._bound:
            await self._server.listen(self._bound)
        self._health.set(is_serving=True)
        if self._certificates:
            self._watching = asyncio.create_task(self._watch(self._certificates))

    def adopt(self, connected: socket.socket) -> None:
        """Serves a connection that another process accepted."""
        self._server.adopt(connected)

    def shed(self, count: int) -> None:
        """Asks so many callers to connect anew."""
        self._server.shed(count)

    def say_leaving(self) -> None:
        """Whoever asks for its health is sent elsewhere; calls are answered as before."""
        self._health.set(is_serving=False)

    async def close(self, grace_s: float) -> None:
        """Takes no new call, finishes those under way."""
        if self._watching:
            self._watching.cancel()
        self._health.set(is_serving=False)
        await self._server.drain(grace_s)
        if self._bound:
            self._bound.close()

    async def _watch(self, certificates: Certificates) -> None:
        warned_s = -_WARN_EVERY_S
        while True:
            try:
                if certificates.refresh():
                    self._server.tls = certificates.context
                    _log.info("certificates_reloaded", expires=certificates.expires.isoformat())
            except InvalidCertificates as error:
                _log.error("certificates_not_reloaded", reason=str(error))
            days = certificates.days_left(datetime.now(UTC))
            SERVING_CERTIFICATE_DAYS.set(days)
            now_s = asyncio.get_running_loop().time()
            if days < _WARNED_DAYS and now_s - warned_s >= _WARN_EVERY_S:
                warned_s = now_s
                _log.warning("certificate_expires", days=round(days, 1), expires=certificates.expires.isoformat())
            await asyncio.sleep(_CERTIFICATE_CHECK_S)


async def listening(settings: ServingSettings) -> socket.socket:
    """A socket on serving's address, whose callers wait. Raises CannotServe when it is taken."""
    address = settings.serving_address
    try:
        return await bound(address)
    except (OSError, ValueError) as error:
        raise CannotServe(
            f"{address} is taken or not of this machine; free it or set FLYWHEEL_SERVING_ADDRESS"
        ) from error


def services_of(paths: Iterable[str]) -> list[str]:
    """The services that these methods belong to, by their full names.

    >>> services_of(["/flywheel.v1.Decisions/Decide", "/flywheel.v1.Decisions/Rank"])
    ['flywheel.v1.Decisions']
    """
    return sorted({path.split("/")[1] for path in paths})


def check_certificates(settings: ServingSettings) -> None:
    """Raises CannotServe when TLS is set and cannot be had."""
    certificates_of(settings)


def certificates_of(settings: ServingSettings, protocol: str = "h2") -> Certificates | None:
    """The certificates that are set, for connections of that protocol. Raises CannotServe when they cannot be had."""
    certificate, key = settings.serving_tls_certificate, settings.serving_tls_key
    if certificate is None and key is None and settings.serving_tls_client_ca is None:
        return None
    if certificate is None or key is None:
        raise CannotServe("TLS needs both FLYWHEEL_SERVING_TLS_CERTIFICATE and FLYWHEEL_SERVING_TLS_KEY")
    try:
        return Certificates(CertificateFiles(certificate, key, settings.serving_tls_client_ca), protocol)
    except InvalidCertificates as error:
        raise CannotServe(f"no TLS: {error}") from error
