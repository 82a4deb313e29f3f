"""The gRPC face of use cases that rank: candidates in, the best of them out. Statuses live here and nowhere below."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from flywheel.adapters.grpc_server.calls import Call
from flywheel.adapters.grpc_server.status import CallFailed, Status
from flywheel.adapters.request_ids import admitted
from flywheel.contracts.metadata import CRITICALITY
from flywheel.contracts.proto.ranking_pb2 import RankedCandidate, RankRequest, RankResponse, StatusCounts
from flywheel.contracts.rankings import impression_id
from flywheel.kernel.decision import DecisionRequest, Refused
from flywheel.kernel.decision.ranker import Ranker
from flywheel.kernel.decision.shortlist import Ranked
from services.serving.decisions.refusals import written_down
from services.serving.decisions.traces import AnswerTraces
from services.serving.rankings.journal import RankingJournal

SERVICE = "flywheel.v1.Rankings"
RANK = f"/{SERVICE}/Rank"


@dataclass(frozen=True)
class RankingDesk:
    """Where the rankings of one use case are made and written down."""

    ranker: Ranker
    journal: RankingJournal
    traces: AnswerTraces = field(default_factory=lambda: AnswerTraces(name="rank"))


class Rankings:
    """Answers `flywheel.v1.Rankings` for the use cases given by name."""

    def __init__(self, desks: Mapping[str, RankingDesk]) -> None:
        self._desks = desks

    async def rank(self, call: Call) -> bytes:
        """The serialized answer to one Rank call. Raises CallFailed."""
        try:
            request = RankRequest.FromString(call.message)
        except DecodeError:
            raise CallFailed(Status.INVALID_ARGUMENT, "the message is no RankRequest; see ranking.proto") from None
        desk = self._desks.get(request.usecase)
        if desk is None:
            served = ", ".join(self._desks)
            raise CallFailed(Status.NOT_FOUND, f"no use case {request.usecase!r} ranks here; there is {served}")
        request_id = admitted(request.request_id)
        asked = DecisionRequest(
            request.subject,
            request_id,
            call.deadline_s,
            call.arrived_s,
            call.metadata.get(CRITICALITY, ""),
            candidates=list(request.candidates),
            keep=request.keep,
        )
        try:
            (answer,) = await desk.ranker.decide([asked])
        except asyncio.CancelledError:
            desk.journal.refused(Status.CANCELLED.name, request_id)
            raise
        if isinstance(answer, Refused):
            failed = CallFailed(*written_down(answer, desk.journal))
            desk.traces.refused(failed.status.name, request_id, call.arrived_s, call.metadata)
            raise failed
        if (logged := desk.journal.ranked(answer)) is not None:
            await logged
        desk.traces.answered(answer, call.metadata)
        return bytes(respond(answer).SerializeToString())


def respond(ranking: Ranked) -> RankResponse:
    """The ranking as it goes over the wire."""
    event_id = ranking.event_id
    return RankResponse(
        decision_id=ranking.decision_id,
        request_id=ranking.request_id,
        ranked=[
            RankedCandidate(
                candidate=candidate, score=score, propensity=propensity, event_id=impression_id(event_id, candidate)
            )
            for candidate, score, propensity in zip(
                ranking.candidates, ranking.scores.tolist(), ranking.propensities.tolist(), strict=True
            )
        ],
        dropped=ranking.dropped,
        model_version=ranking.model_version,
        arm=ranking.arm,
        fallback=ranking.fallback,
        step=ranking.step,
        feature_status={source: StatusCounts(candidates=found) for source, found in ranking.statuses.items()},
        feature_lag_ms=ranking.feature_lag_ms,
        stage_ms=ranking.stage_ms,
    )
