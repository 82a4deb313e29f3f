"""The gRPC face: calls in, decisions and statuses out. Statuses live here and nowhere below."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError

from flywheel.adapters.grpc_server.calls import Call, Unary, awaited
from flywheel.adapters.grpc_server.status import CallFailed, Status
from flywheel.adapters.request_ids import admitted
from flywheel.contracts.metadata import CRITICALITY
from flywheel.contracts.proto.decision_pb2 import (
    DecideBatchRequest,
    DecideBatchResponse,
    DecideOutcome,
    DecideRequest,
    DecideResponse,
    Refusal,
)
from flywheel.kernel.decision import MAX_ROWS, Cohort, Decided, Decider, DecisionRequest, Refused
from services.serving.decisions.answers import AnswerEncoder
from services.serving.decisions.explaining import Explainer
from services.serving.decisions.journal import Journal
from services.serving.decisions.refusals import written_down
from services.serving.decisions.traces import AnswerTraces

SERVICE = "flywheel.v1.Decisions"
DECIDE_BATCH = f"/{SERVICE}/DecideBatch"
MAX_BATCH = 1_000
_FEW = 4


@dataclass(frozen=True)
class Desk:
    """Where the decisions of one use case are made, written down and explained."""

    decider: Decider
    journal: Journal
    explainer: Explainer
    encoder: AnswerEncoder = field(default_factory=AnswerEncoder)
    traces: AnswerTraces = field(default_factory=AnswerTraces)


class DecisionsServicer:
    """Answers `flywheel.v1.Decisions` for the use cases given by name, on subjects of at most so many bytes."""

    def __init__(self, desks: Mapping[str, Desk], *, max_subject_bytes: int) -> None:
        self._desks = desks
        self._max_subject_bytes = max_subject_bytes
        self._running: set[asyncio.Task[None]] = set()

    def unary(self) -> dict[str, Unary]:
        """What answers each method, by its path."""
        return {f"/{SERVICE}/Decide": self.decide, DECIDE_BATCH: awaited(self.decide_batch)}

    def decide(self, calls: Sequence[Call]) -> None:
        """Answers calls that came together: a decision each, or INVALID_ARGUMENT, NOT_FOUND, DEADLINE_EXCEEDED,
        INTERNAL."""
        asked: dict[str, tuple[list[Call], list[DecideRequest]]] = {}
        for call in calls:
            try:
                request = DecideRequest.FromString(call.message)
            except DecodeError:
                call.fail(Status.INVALID_ARGUMENT, "the message is no DecideRequest")
                continue
            mine = asked.setdefault(request.usecase, ([], []))
            mine[0].append(call)
            mine[1].append(request)
        for usecase, (some, requests) in asked.items():
            desk = self._desks.get(usecase)
            if desk is None:
                for call in some:
                    call.fail(Status.NOT_FOUND, self._not_here(usecase))
            else:
                self._begin(desk, some, requests)

    async def decide_batch(self, call: Call) -> bytes:
        """The serialized outcomes of a `DecideBatchRequest`. Raises CallFailed."""
        try:
            batch = DecideBatchRequest.FromString(call.message)
        except DecodeError as error:
            raise CallFailed(Status.INVALID_ARGUMENT, "the message is no DecideBatchRequest") from error
        desk = self._desks.get(batch.usecase)
        if desk is None:
            raise CallFailed(Status.NOT_FOUND, self._not_here(batch.usecase))
        if len(batch.subjects) > MAX_BATCH:
            raise CallFailed(
                Status.INVALID_ARGUMENT,
                f"subjects: {len(batch.subjects)} where {MAX_BATCH} are accepted at once; send several batches",
            )
        # A single request of that size would not have come this far.
        if large := [place for place, each in enumerate(batch.subjects) if len(each) > self._max_subject_bytes]:
            reason = f"{len(batch.subjects[large[0]])} bytes where {self._max_subject_bytes} are accepted"
            raise CallFailed(Status.INVALID_ARGUMENT, f"subjects.{large[0]}: {reason}")
        batch_id = admitted(batch.request_id)
        outcomes, answers = await _batch_decided(desk, batch, batch_id, call)
        # Only now is it sure that somebody hears them: before that nothing of the batch was decided.
        decided = [outcome for outcome in outcomes if isinstance(outcome, Decided)]
        if decided and (logged := desk.journal.answered(decided)) is not None:
            await logged
        for decision in decided:
            desk.traces.answered(decision, call.metadata)
        return DecideBatchResponse(outcomes=answers).SerializeToString()

    def _begin(self, desk: Desk, calls: Sequence[Call], requests: Sequence[DecideRequest]) -> None:
        begun = desk.decider.begin(
            [
                _request(call, request.subject, admitted(request.request_id))
                for call, request in zip(calls, requests, strict=True)
            ]
        )
        for place, refused in begun.refused:
            _refuse(desk, calls[place], refused)
        for cohort in begun.cohorts:
            self._run(self._answer(desk, cohort, calls, requests))

    async def _answer(
        self, desk: Desk, cohort: Cohort, calls: Sequence[Call], requests: Sequence[DecideRequest]
    ) -> None:
        try:
            await self._decide(desk, cohort, calls, requests)
        except Exception as error:
            # Nobody foresaw it, and nobody shall wait for an answer that does not come.
            for case in cohort.cases:
                _refuse(desk, calls[case.place], Refused(case.request_id, error))

    async def _decide(
        self, desk: Desk, cohort: Cohort, calls: Sequence[Call], requests: Sequence[DecideRequest]
    ) -> None:
        outcomes = await desk.decider.answer(cohort)
        if len(outcomes) > _FEW:
            # Writing so many down takes as long as deciding did: whoever came meanwhile is read, and refused, first.
            await asyncio.sleep(0)
        decided: list[tuple[int, Decided]] = []
        for place, outcome in zip(cohort.places, outcomes, strict=True):
            if calls[place].cancelled:
                # Nobody will hear it, so it was not decided.
                desk.journal.refused(Status.CANCELLED.name, outcome.request_id)
            elif isinstance(outcome, Refused):
                _refuse(desk, calls[place], outcome)
            else:
                decided.append((place, outcome))
        if not decided:
            return
        logged = desk.journal.answered([decision for _, decision in decided])
        if logged is not None:
            await logged
        for place, decision in decided:
            self._reply(desk, calls[place], requests[place], decision)

    def _reply(self, desk: Desk, call: Call, request: DecideRequest, decision: Decided) -> None:
        try:
            answer = desk.encoder.encode(decision, features=not request.omit_features)
        except Exception as error:
            # Nobody foresaw it; the others of the cohort get their answers.
            call.fail(*written_down(Refused(decision.request_id, error), desk.journal))
            return
        if request.explain:
            self._run(_explain(desk, call, decision, answer, request.explain))
        else:
            call.reply(answer)
        desk.traces.answered(decision, call.metadata)

    def _run(self, answering: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(answering)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _not_here(self, usecase: str) -> str:
        return f"no use case {usecase!r} here; there is {', '.join(self._desks)}"


def _request(call: Call, subject: bytes, request_id: str) -> DecisionRequest:
    return DecisionRequest(subject, request_id, call.deadline_s, call.arrived_s, call.metadata.get(CRITICALITY, ""))


def _refuse(desk: Desk, call: Call, refused: Refused) -> None:
    status, reason, trailers = written_down(refused, desk.journal)
    call.fail(status, reason, trailers)
    desk.traces.refused(status.name, refused.request_id, call.arrived_s, call.metadata)


async def _explain(desk: Desk, call: Call, decision: Decided, answer: bytes, top: int) -> None:
    try:
        explanation = await desk.explainer.explain(decision, top, call.deadline_s)
        # Messages that stand one after another are read as one.
        answer += explanation.SerializeToString()
    except Exception as error:
        # Nobody foresaw it; the decision is made and goes to its caller without.
        desk.journal.failed(decision.request_id, error)
    if not call.cancelled:
        call.reply(answer)


async def _batch_decided(
    desk: Desk, batch: DecideBatchRequest, batch_id: str, call: Call
) -> tuple[list[Decided | Refused], list[DecideOutcome]]:
    """What became of each subject, and as it goes over the wire."""
    outcomes: list[Decided | Refused] = []
    answers: list[DecideOutcome] = []
    request_ids = [f"{batch_id}:{place}" for place in range(len(batch.subjects))]
    criticality = call.metadata.get(CRITICALITY, "")
    for start in range(0, len(request_ids), MAX_ROWS):
        # One piece after the other, each with the declared time of its own: calls of others go on in between.
        piece = slice(start, start + MAX_ROWS)
        requests = [
            DecisionRequest(subject, request_id, call.deadline_s, criticality=criticality)
            for subject, request_id in zip(batch.subjects[piece], request_ids[piece], strict=True)
        ]
        try:
            found = await desk.decider.decide(requests)
        except asyncio.CancelledError:
            # Nobody will hear it, so nothing was decided; those that were refused are counted already.
            counted = {outcome.request_id for outcome in outcomes if isinstance(outcome, Refused)}
            for request_id in request_ids:
                if request_id not in counted:
                    desk.journal.refused(Status.CANCELLED.name, request_id)
            raise
        outcomes += found
        answers += [_outcome(desk, outcome, features=not batch.omit_features) for outcome in found]
    return outcomes, answers


def _outcome(desk: Desk, outcome: Decided | Refused, *, features: bool) -> DecideOutcome:
    if isinstance(outcome, Refused):
        status, reason, _ = written_down(outcome, desk.journal)
        return DecideOutcome(refusal=Refusal(status=int(status), reason=reason))
    return DecideOutcome(decision=DecideResponse.FromString(desk.encoder.encode(outcome, features=features)))
