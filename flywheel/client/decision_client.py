"""Asks serving for decisions over gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import orjson

from flywheel.adapters.grpc_client import ClientTls, open_async_channel
from flywheel.client.errors import ClientError, ServingUnreachable
from flywheel.contracts.proto.decision_pb2 import DecideRequest, DecideResponse
from flywheel.contracts.proto.decision_pb2_grpc import DecisionsStub

CRITICALITY = "flywheel-criticality"

# A refused request has had no effect: it is tried again, when serving says so, as long as few are refused. Nothing else
# is: a decision that was cut off may have been logged.
RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": "flywheel.v1.Decisions"}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.02s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}
# Serving may be started again at any time: look for it every second or two, not every two minutes.
_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.service_config", orjson.dumps(RETRIES).decode()),
)


class DecisionClient:
    """A client of serving at `address`, for one event loop."""

    def __init__(self, address: str, *, timeout_s: float, tls: ClientTls | None = None) -> None:
        """Speaks plain text without `tls`. Raises UnusableTls when its files cannot be used."""
        self._address = address
        self._timeout_s = timeout_s
        self._channel = open_async_channel(address, tls, _OPTIONS)
        self._spoken = "by TLS" if tls else "in plain text"
        self._decide = DecisionsStub(self._channel).Decide

    async def decide(
        self,
        usecase: str,
        event: Mapping[str, Any],
        request_id: str = "",
        *,
        criticality: str = "",
        explain: int = 0,
    ) -> DecideResponse:
        """The decision about the event. Raises ServingUnreachable when none came in time, ClientError when refused.

        `criticality` (`default`, `sheddable`) says that it matters less than the use case declares; `explain`, how
        many contributions to the score are wanted.
        """
        request = DecideRequest(usecase=usecase, subject=orjson.dumps(event), request_id=request_id, explain=explain)
        try:
            response: DecideResponse = await self._decide(
                request, timeout=self._timeout_s, metadata=((CRITICALITY, criticality),) if criticality else None
            )
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND):
                raise ClientError(f"serving refuses the request: {error.details()}") from error
            raise ServingUnreachable(self._address, self._words(error)) from error
        return response

    async def close(self) -> None:
        """Lets go of the connection."""
        await self._channel.close()

    def _words(self, error: grpc.aio.AioRpcError) -> str:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return f"no connection {self._spoken}"
        return f"{error.code().name}: {error.details()}"
