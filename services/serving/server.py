"""The running server: gRPC with health and reflection, and everything that must start and stop with it."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from flywheel.adapters.http_server import HttpServer
from flywheel.adapters.logs import logger
from flywheel.adapters.metrics_server import MetricsServer
from flywheel.contracts.proto.decision_pb2_grpc import add_DecisionsServicer_to_server
from flywheel.kernel.ports import DecisionLog, FeatureReader
from services.serving.inference import Inference
from services.serving.models import Models
from services.serving.servicer import SERVICE, DecisionsServicer
from services.serving.settings import ServingSettings
from services.serving.shadow import Shadow

_SERVING = health_pb2.HealthCheckResponse.SERVING
_log = logger(__name__)


class CannotServe(Exception):
    """The address cannot be had; the message says what to do."""


class Server:
    """One serving process. `start`, then `stop`, each once, on one event loop."""

    def __init__(
        self,
        settings: ServingSettings,
        servicer: DecisionsServicer,
        *,
        models: Models,
        reader: FeatureReader,
        log: DecisionLog,
        shadow: Shadow,
        inference: Inference,
        rest: HttpServer | None = None,
    ) -> None:
        self._settings = settings
        self._servicer = servicer
        self._models = models
        self._reader = reader
        self._decisions = log
        self._shadow = shadow
        self._inference = inference
        self._rest = rest
        self._answering = False
        self._health = health.aio.HealthServicer()
        self._watching: asyncio.Task[None] | None = None
        self._grpc: grpc.aio.Server | None = None
        self._metrics: MetricsServer | None = None
        self.port = 0
        self.rest_port = 0

    async def start(self) -> None:
        """Answers from now on, by the rule while there is no model. Raises CannotServe when an address is taken."""
        self._grpc = self._listen()
        self._metrics = self._expose()
        self._bind_rest()
        await asyncio.to_thread(self._models.refresh)
        self._decisions.start()
        await self._grpc.start()
        for name in ("", SERVICE):
            await self._health.set(name, _SERVING)
        self._answering = True
        self._watching = asyncio.create_task(self._models.watch(self._settings.serving_model_poll_s))
        self._metrics.start()
        if self._rest:
            await self._rest.start()
        _log.info("serving", address=self._settings.serving_address, detail=self.ready()[1])

    async def stop(self) -> None:
        """Takes no new request, finishes those under way, flushes their decisions."""
        self._answering = False
        if self._watching:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        await self._health.enter_graceful_shutdown()
        if self._rest:
            await self._rest.stop()
        if self._grpc:
            await self._grpc.stop(self._settings.serving_drain_s)
        await self._shadow.close(self._settings.serving_drain_s)
        await self._decisions.close(self._settings.serving_drain_s)
        self._inference.close()
        await self._reader.close()
        if self._metrics:
            self._metrics.close()
        _log.info("stopped", unflushed=self._decisions.in_flight)

    def ready(self) -> tuple[bool, str]:
        """Whether decisions are answered, and how."""
        if not self._answering:
            return False, "not answering"
        return True, self._models.detail

    def _listen(self) -> grpc.aio.Server:
        settings = self._settings
        server = grpc.aio.server(
            maximum_concurrent_rpcs=settings.serving_max_in_flight,
            options=(
                ("grpc.max_receive_message_length", settings.serving_max_subject_bytes),
                # Two servers on one port would share its requests silently.
                ("grpc.so_reuseport", 0),
            ),
        )
        add_DecisionsServicer_to_server(self._servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        try:
            self.port = server.add_insecure_port(settings.serving_address)
        except RuntimeError as error:
            raise CannotServe(
                f"{settings.serving_address} is taken or not of this machine; free it or set FLYWHEEL_SERVING_ADDRESS"
            ) from error
        return server

    def _bind_rest(self) -> None:
        address = self._settings.serving_rest_address
        if self._rest is None:
            return
        try:
            self.rest_port = self._rest.bind(address)
        except OSError as error:
            raise CannotServe(
                f"{address} is taken or not of this machine; free it or set FLYWHEEL_SERVING_REST_ADDRESS"
            ) from error

    def _expose(self) -> MetricsServer:
        port = self._settings.serving_metrics_port
        try:
            return MetricsServer(port, self.ready)
        except OSError as error:
            raise CannotServe(
                f"port {port} for metrics is taken; free it or set FLYWHEEL_SERVING_METRICS_PORT"
            ) from error
