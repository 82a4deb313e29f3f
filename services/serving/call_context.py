"""Lets a servicer that is written for gRPC's own server answer calls of the serving port."""

from __future__ import annotations

import math
import time
from typing import Never, cast

import grpc
from google.protobuf.message import DecodeError

from flywheel.adapters.grpc_server.calls import Call
from flywheel.adapters.grpc_server.status import CallFailed, Status
from flywheel.contracts.proto.decision_pb2 import DecideRequest
from services.serving.servicer import DecisionsServicer


class CallContext:
    """What the servicer asks of a context."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def time_remaining(self) -> float | None:
        """Seconds, or None without a deadline."""
        left_s = self._call.deadline_s - time.perf_counter()
        return None if left_s == math.inf else left_s

    async def abort(self, status: grpc.StatusCode, reason: str) -> Never:
        """Ends the call."""
        raise CallFailed(Status[status.name], reason)


async def decide(servicer: DecisionsServicer, call: Call) -> bytes:
    """The serialized answer to one Decide call. Raises CallFailed."""
    try:
        request = DecideRequest.FromString(call.message)
    except DecodeError as error:
        raise CallFailed(Status.INTERNAL, "the request is no DecideRequest") from error
    context = cast(grpc.aio.ServicerContext, CallContext(call))
    return bytes((await servicer.Decide(request, context)).SerializeToString())
