"""The running server: its port, and everything that must start and stop with it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import REGISTRY, CollectorRegistry

from flywheel.adapters.grpc_server.calls import Unary
from flywheel.adapters.http_server import HttpServer
from flywheel.adapters.logs import logger
from flywheel.adapters.metrics_server import MetricsServer, Readiness
from flywheel.adapters.tracing import UNTRACED, Tracing
from flywheel.kernel.ports import DecisionLog, FeatureReader
from services.serving.inference.plane import Inference
from services.serving.models.line_up import Models
from services.serving.models.shadow import Shadow
from services.serving.port.gate import AdmissionGate
from services.serving.port.port import CannotServe, Port
from services.serving.settings import ServingSettings

_HANGS_AFTER_S = 1.0
"""Many times what any work on the loop takes; whoever asks has run into its deadline by then."""

_log = logger(__name__)


class Server:
    """One serving process. `start`, then `stop`, each once, on one event loop.

    `unary` are the methods it answers by path, for those whom `gate` admits.
    """

    def __init__(
        self,
        settings: ServingSettings,
        unary: Mapping[str, Unary],
        *,
        gate: AdmissionGate,
        models: Models,
        reader: FeatureReader,
        log: DecisionLog,
        shadow: Shadow,
        inference: Inference,
        rest: HttpServer | None = None,
        tracing: Tracing = UNTRACED,
        warm_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._warm_up = warm_up
        self._unary = unary
        self._gate = gate
        self._models = models
        self._reader = reader
        self._decisions = log
        self._shadow = shadow
        self._inference = inference
        self._rest = rest
        self._tracing = tracing
        self._answering = False
        self._watching: asyncio.Task[None] | None = None
        self._open: Port | None = None
        self._metrics: MetricsServer | None = None
        self.port = 0
        self.rest_port = 0

    async def start(self, *, on_closed: Callable[[], object] | None = None) -> None:
        """Answers from now on, by the rule while there is no model. Raises CannotServe when an address is taken.

        With `on_closed` it is a worker: it takes the connections that `adopt` brings, hears through that of their
        ends, shares the REST address with others, and has its metrics on any port.
        """
        is_worker = on_closed is not None
        port = self._open = Port(self._settings, self._unary, self._gate, on_closed or (lambda: None))
        if not is_worker:
            self.port = await port.bind()
        self._metrics = metrics_server(self._settings, self.ready, is_worker=is_worker)
        self._bind_rest(is_shared=is_worker)
        await asyncio.to_thread(self._models.refresh)
        self._decisions.start()
        self._gate.start()
        await self._warm_up()
        await port.open()
        self._answering = True
        self._watching = asyncio.create_task(self._models.watch(self._settings.serving_model_poll_s))
        self._metrics.start()
        if self._rest:
            await self._rest.start()
        _log.info("serving", address=self._settings.serving_address, detail=self.ready()[1])

    async def stop(self) -> None:
        """Gives notice, then takes no new request, finishes those under way, flushes their decisions: after the notice
        twice the drain time at most."""
        drain_s = self._settings.serving_drain_s
        if self._answering:
            await self._give_notice(self._settings.serving_notice_s)
        self._models.hurry()
        if self._watching:
            self._watching.cancel()
            # However it ended: what follows must be closed.
            await asyncio.gather(self._watching, return_exceptions=True)
        await _together(
            self._rest.stop() if self._rest else _nothing(),
            self._open.close(drain_s) if self._open else _nothing(),
        )
        self._gate.stop()
        await _together(
            self._decisions.close(drain_s),
            self._shadow.close(drain_s),
            asyncio.to_thread(self._tracing.close, drain_s),
        )
        self._inference.close()
        await self._reader.close()
        if self._metrics:
            self._metrics.close()
        _log.info("stopped", unflushed=self._decisions.in_flight)

    async def _give_notice(self, notice_s: float) -> None:
        self._answering = False
        if self._open and notice_s:
            self._open.say_leaving()
            await asyncio.sleep(notice_s)

    def ready(self) -> tuple[bool, str]:
        """Whether decisions are answered, and how."""
        if not self._answering:
            return False, "not answering"
        if (stands_s := self._gate.loop_stands_s()) > _HANGS_AFTER_S:
            return False, f"not answering: the event loop has stood still for {stands_s:.1f} s"
        return True, self._models.detail

    @property
    def metrics_port(self) -> int:
        """Where its metrics are."""
        return self._metrics.port if self._metrics else 0

    def adopt(self, connected: socket.socket) -> None:
        """Serves a connection that another process accepted."""
        if self._open:
            self._open.adopt(connected)

    def shed(self, count: int) -> None:
        """Asks so many callers to connect anew."""
        if self._open:
            self._open.shed(count)

    def _bind_rest(self, *, is_shared: bool) -> None:
        address = self._settings.serving_rest_address
        if self._rest is None:
            return
        try:
            self.rest_port = self._rest.bind(address, reuse_port=is_shared)
        except OSError as error:
            raise CannotServe(
                f"{address} is taken or not of this machine; free it or set FLYWHEEL_SERVING_REST_ADDRESS"
            ) from error


async def _together(*closing: Awaitable[None]) -> None:
    # Whatever becomes of one, the others are closed to the end.
    for outcome in await asyncio.gather(*closing, return_exceptions=True):
        if isinstance(outcome, Exception):
            _log.error("part_not_closed", exc_info=outcome)


async def _nothing() -> None:
    """What was never opened is closed already."""


def metrics_server(
    settings: ServingSettings, ready: Readiness, registry: CollectorRegistry = REGISTRY, *, is_worker: bool = False
) -> MetricsServer:
    """The server of metrics and readiness, not started yet. Raises CannotServe when the port is taken.

    A worker answers its parent alone, at any port of this machine.
    """
    host, port = ("127.0.0.1", 0) if is_worker else (settings.metrics_host, settings.serving_metrics_port)
    try:
        return MetricsServer(port, ready, host=host, registry=registry)
    except OSError as error:
        raise CannotServe(f"port {port} for metrics is taken; free it or set FLYWHEEL_SERVING_METRICS_PORT") from error
