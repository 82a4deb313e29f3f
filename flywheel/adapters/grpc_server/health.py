"""gRPC's health service: Check, List, Watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing

from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse, HealthListResponse

from flywheel.adapters.grpc_server.calls import Call, StreamCall, Streaming, Unary
from flywheel.adapters.grpc_server.status import CallFailed, Status

HEALTH = "grpc.health.v1.Health"


class Health:
    """Which services are served. The empty name stands for the whole process."""

    def __init__(self, services: Iterable[str]) -> None:
        not_yet = HealthCheckResponse.NOT_SERVING
        self._statuses: dict[str, int] = dict.fromkeys(("", *services), not_yet)
        self._changed = asyncio.Event()

    def set(self, *, is_serving: bool, service: str | None = None) -> None:
        """Tells it of one service, or of all; those who watch hear of it."""
        status = HealthCheckResponse.SERVING if is_serving else HealthCheckResponse.NOT_SERVING
        for name in self._statuses if service is None else (service,):
            self._statuses[name] = status
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def unary(self) -> Mapping[str, Unary]:
        """Its unary methods by path."""
        return {f"/{HEALTH}/Check": _each(self._check), f"/{HEALTH}/List": _each(self._list)}

    def streaming(self) -> Mapping[str, Streaming]:
        """Its streaming methods by path."""
        return {f"/{HEALTH}/Watch": self._watch}

    def _check(self, message: bytes) -> bytes:
        service = _service(message)
        status = self._statuses.get(service)
        if status is None:
            raise CallFailed(Status.NOT_FOUND, f"no service {service!r} here")
        return bytes(HealthCheckResponse(status=status).SerializeToString())

    def _list(self, _: bytes) -> bytes:
        statuses = {name: HealthCheckResponse(status=status) for name, status in self._statuses.items()}
        return bytes(HealthListResponse(statuses=statuses).SerializeToString())

    async def _watch(self, messages: AsyncGenerator[bytes, None], _: StreamCall) -> AsyncIterator[bytes]:
        async with aclosing(messages):
            service = _service(await anext(messages, b""))
        told: int | None = None
        while True:
            changed = self._changed
            status = self._statuses.get(service, HealthCheckResponse.SERVICE_UNKNOWN)
            if status != told:
                told = status
                yield HealthCheckResponse(status=status).SerializeToString()
            await changed.wait()


def _each(answer: Callable[[bytes], bytes]) -> Unary:
    def handle(calls: Sequence[Call]) -> None:
        for call in calls:
            try:
                call.reply(answer(call.message))
            except CallFailed as failed:
                call.fail(failed.status, failed.reason)

    return handle


def _service(message: bytes) -> str:
    try:
        return str(HealthCheckRequest.FromString(message).service)
    except DecodeError as error:
        raise CallFailed(Status.INTERNAL, "the request is no HealthCheckRequest") from error
