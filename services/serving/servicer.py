"""The gRPC face: requests in, decisions and statuses out. Statuses live here and nowhere below."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Never

import grpc

from flywheel.adapters.request_ids import admitted
from flywheel.contracts.proto.decision_pb2 import DecideRequest, DecideResponse, FeatureValue
from flywheel.kernel.decision import Decided, Decider, DecisionRequest, Refused
from flywheel.kernel.subject import InvalidSubject
from flywheel.kernel.timing import OutOfTime
from services.serving.journal import Journal

SERVICE = "flywheel.v1.Decisions"

_STATUS = {
    InvalidSubject: grpc.StatusCode.INVALID_ARGUMENT,
    OutOfTime: grpc.StatusCode.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True)
class Desk:
    """Where the decisions of one use case are made and written down."""

    decider: Decider
    journal: Journal


class DecisionsServicer:
    """Implements `flywheel.v1.Decisions` for the use cases given by name."""

    def __init__(self, desks: Mapping[str, Desk]) -> None:
        self._desks = desks

    async def Decide(self, request: DecideRequest, context: grpc.aio.ServicerContext) -> DecideResponse:
        """The decision, or INVALID_ARGUMENT, NOT_FOUND, DEADLINE_EXCEEDED, INTERNAL."""
        desk = self._desks.get(request.usecase)
        if desk is None:
            served = ", ".join(self._desks)
            await _abort(context, grpc.StatusCode.NOT_FOUND, f"no use case {request.usecase!r} here; there is {served}")
        request_id = admitted(request.request_id)
        deadline_s = time.perf_counter() + _left_s(context)
        try:
            (decision,) = await desk.decider.decide([DecisionRequest(request.subject, request_id, deadline_s)])
        except asyncio.CancelledError:
            desk.journal.refused(grpc.StatusCode.CANCELLED.name, request_id)
            raise
        if isinstance(decision, Refused):
            status = _STATUS.get(type(decision.error))
            if status is None:
                # Nobody foresaw it: the caller gets a status and the request's id, the log gets the whole story.
                desk.journal.failed(request_id, decision.error)
                await _abort(context, grpc.StatusCode.INTERNAL, f"request {request_id} failed; serving's log says why")
            desk.journal.refused(status.name, request_id, decision.error)
            await _abort(context, status, str(decision.error))
        if (logged := desk.journal.answered([decision])) is not None:
            await logged
        return respond(decision)


def respond(decision: Decided) -> DecideResponse:
    """The decision as it goes over the wire."""
    return DecideResponse(
        decision_id=decision.decision_id,
        request_id=decision.request_id,
        action=decision.action,
        score=decision.score,
        reasons=decision.reasons,
        model_version=decision.model_version,
        arm=decision.arm,
        fallback=decision.fallback,
        features=[
            FeatureValue(name=name, value=value)
            for name, value in zip(decision.feature_names, decision.features, strict=True)
        ],
        feature_status=decision.feature_status,
        feature_lag_ms=decision.hydrated.lag_ms,
        feature_age_ms=decision.feature_age_ms,
        stage_ms=decision.stage_ms,
    )


def _left_s(context: grpc.aio.ServicerContext) -> float:
    left_s = context.time_remaining()
    return math.inf if left_s is None else float(left_s)


async def _abort(context: grpc.aio.ServicerContext, status: grpc.StatusCode, reason: str) -> Never:
    await context.abort(status, reason)
    raise AssertionError("abort always raises")
