"""Asks serving for decisions and rankings over gRPC."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import grpc
import orjson

from flywheel.adapters.grpc_client import ClientTls, open_async_channel
from flywheel.client.errors import ClientError, ServingUnreachable
from flywheel.contracts.metadata import CRITICALITY
from flywheel.contracts.proto.decision_pb2 import (
    DecideBatchRequest,
    DecideBatchResponse,
    DecideOutcome,
    DecideRequest,
    DecideResponse,
)
from flywheel.contracts.proto.decision_pb2_grpc import DecisionsStub
from flywheel.contracts.proto.ranking_pb2 import RankRequest, RankResponse
from flywheel.contracts.proto.ranking_pb2_grpc import RankingsStub

# A refused request has had no effect: it is tried again, when serving says so, as long as few are refused. Nothing else
# is: a decision that was cut off may have been logged.
RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": "flywheel.v1.Decisions"}, {"service": "flywheel.v1.Rankings"}],
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
_REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED)

Answer = TypeVar("Answer")


class DecisionClient:
    """A client of serving at `address`, for one event loop.

    Its questions raise ServingUnreachable when no answer came in time, ClientError when serving refuses them. Their
    `criticality` (`default`, `sheddable`) says that a request matters less than the use case declares.
    """

    def __init__(self, address: str, *, timeout_s: float, tls: ClientTls | None = None) -> None:
        """Speaks plain text without `tls`. Raises UnusableTls when its files cannot be used."""
        self._address = address
        self._timeout_s = timeout_s
        self._channel = open_async_channel(address, tls, _OPTIONS)
        self._spoken = "by TLS" if tls else "in plain text"
        self._decisions = DecisionsStub(self._channel)
        self._rankings = RankingsStub(self._channel)

    async def decide(
        self,
        usecase: str,
        event: Mapping[str, Any],
        request_id: str = "",
        *,
        criticality: str = "",
        explain: int = 0,
    ) -> DecideResponse:
        """The decision about the event. `explain` says how many contributions to the score are wanted."""
        request = DecideRequest(usecase=usecase, subject=orjson.dumps(event), request_id=request_id, explain=explain)
        answer: DecideResponse = await self._ask(self._decisions.Decide, request, criticality)
        return answer

    async def decide_batch(
        self, usecase: str, events: Sequence[Mapping[str, Any]], request_id: str = "", *, criticality: str = ""
    ) -> list[DecideOutcome]:
        """A decision or a refusal about each event, in their order."""
        subjects = [orjson.dumps(event) for event in events]
        request = DecideBatchRequest(usecase=usecase, subjects=subjects, request_id=request_id)
        answer: DecideBatchResponse = await self._ask(self._decisions.DecideBatch, request, criticality)
        return list(answer.outcomes)

    async def rank(
        self,
        usecase: str,
        event: Mapping[str, Any],
        candidates: Sequence[str],
        request_id: str = "",
        *,
        keep: int = 0,
        criticality: str = "",
    ) -> RankResponse:
        """The best candidates in their order, `keep` at most; 0: as many as are declared.

        The event lacks the field that candidates are values of.
        """
        request = RankRequest(
            usecase=usecase, subject=orjson.dumps(event), request_id=request_id, candidates=candidates, keep=keep
        )
        answer: RankResponse = await self._ask(self._rankings.Rank, request, criticality)
        return answer

    async def close(self) -> None:
        """Lets go of the connection."""
        await self._channel.close()

    async def _ask(self, method: Callable[..., Awaitable[Answer]], request: object, criticality: str) -> Answer:
        metadata = ((CRITICALITY, criticality),) if criticality else None
        try:
            return await method(request, timeout=self._timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() in _REFUSALS:
                raise ClientError(f"serving refuses the request: {error.details()}") from error
            raise self._unanswered(error) from error

    def _unanswered(self, error: grpc.aio.AioRpcError) -> ServingUnreachable:
        detail = f"{error.code().name}: {error.details()}"
        match error.code():
            case grpc.StatusCode.UNAVAILABLE:
                return ServingUnreachable(self._address, f"no connection {self._spoken}")
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                return ServingUnreachable(
                    self._address, detail, "refuses the request", "it has too much to do; ask later"
                )
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return ServingUnreachable(self._address, detail, f"gave no answer within {self._timeout_s:g} s")
        return ServingUnreachable(self._address, detail, "failed", "its log says why: `make logs P=serving`")
