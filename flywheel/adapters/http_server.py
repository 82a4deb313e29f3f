"""An HTTP server on the event loop that runs already, beside whatever else that loop does."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from flywheel.adapters.certificates import Certificates, InvalidCertificates
from flywheel.adapters.logs import logger

_CERTIFICATE_CHECK_S = 5.0
_log = logger(__name__)


class HttpServer:
    """Serves an app at `host:port`; port 0 takes any free one. `bind`, `start`, `stop`, each once and in this order.

    With `certificates`, made for `http/1.1`, it speaks TLS; they are looked at again every few seconds.
    """

    def __init__(self, app: ASGIApp, *, grace_s: float, certificates: Certificates | None = None) -> None:
        self._certificates = certificates
        context = certificates.context if certificates else None
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=math.ceil(grace_s),
            ssl_context_factory=(lambda *_: context) if context else None,
        )
        self._server = _Server(config)
        self._socket: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None
        self._context = context
        self._renewing: asyncio.Task[None] | None = None

    def bind(self, address: str, *, reuse_port: bool = False) -> int:
        """Takes the address; the port that it got. Raises OSError when it cannot be had."""
        host, _, port = address.rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        taken = socket.socket(family)
        try:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            taken.bind((host.strip("[]"), int(port)))
        except OSError:
            taken.close()
            raise
        self._socket = taken
        return int(taken.getsockname()[1])

    async def start(self) -> None:
        """Answers from now on."""
        if self._socket is None:
            raise RuntimeError("bind first")
        self._serving = asyncio.create_task(self._server.serve([self._socket]))
        while not self._server.started and not self._serving.done():
            await asyncio.sleep(0)
        if self._serving.done():
            await self._serving
        if self._certificates and self._context:
            self._renewing = asyncio.create_task(_renew(self._certificates, self._context))

    async def stop(self) -> None:
        """Takes no new request and finishes those under way, for the grace that was given."""
        if self._renewing:
            self._renewing.cancel()
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        elif self._socket is not None:
            self._socket.close()


async def _renew(certificates: Certificates, context: ssl.SSLContext) -> None:
    while True:
        await asyncio.sleep(_CERTIFICATE_CHECK_S)
        try:
            if certificates.refresh():
                certificates.load_into(context)
        except (InvalidCertificates, OSError) as error:
            _log.error("certificates_not_reloaded", reason=str(error))


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals are for the process, which stops this server among others.
        yield
