"""A refused request is told to its caller in full and to the logs without anything the caller made up."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
import structlog
from structlog.testing import capture_logs

from flywheel.adapters.grpc_server.status import CallFailed, Status
from flywheel.adapters.logs import Pseudonyms
from flywheel.adapters.memory_decision_log import MemoryDecisionLog
from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.adapters.request_ids import new_id
from flywheel.adapters.tracing import UNTRACED, OtlpTracing, Tracing
from flywheel.contracts.decisions import DecisionLogged
from flywheel.contracts.proto.decision_pb2 import (
    DecideBatchRequest,
    DecideBatchResponse,
    DecideRequest,
    DecideResponse,
)
from flywheel.kernel.decision import MAX_ROWS, Decided, Decider, DecisionRequest, Refused
from flywheel.kernel.lineup import Lineup
from flywheel.kernel.timing import Clock
from services.serving.bootstrap import CLOCK
from services.serving.decisions.explaining import Explainer
from services.serving.decisions.journal import Journal
from services.serving.decisions.servicer import MAX_BATCH, DecisionsServicer, Desk
from services.serving.decisions.traces import AnswerTraces
from tests.serving_parts import PLAN, USECASE, payment
from tests.trace_collector import collecting

SECRET = "4111 1111 1111 1111"
STEADY_S = 100.0
MAX_SUBJECT_BYTES = 4096
# No time passes, however busy the machine is.
STOPPED = Clock(wall_us=CLOCK.wall_us, steady_s=lambda: STEADY_S)


class Made:
    """A call as the port makes it, that keeps its answer."""

    path = "/flywheel.v1.Decisions/Decide"
    deadline_s = math.inf

    def __init__(self, request: DecideRequest | bytes, metadata: Mapping[str, str] | None = None) -> None:
        self.message = request if isinstance(request, bytes) else request.SerializeToString()
        self.metadata = metadata or {}
        self.arrived_s = STEADY_S
        self.cancelled = False
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def reply(self, message: bytes) -> None:
        self.answer.set_result(message)

    def fail(self, status: Status, reason: str, trailers: Mapping[str, str] | None = None) -> None:
        self.answer.set_exception(CallFailed(status, reason, trailers))

    def on_cancel(self, callback: Callable[[], object]) -> None: ...


class Scene:
    """A servicer on a store without anything and without a model, and what it logs."""

    def __init__(self, tracing: Tracing = UNTRACED) -> None:
        self.log = MemoryDecisionLog(on_acknowledged=lambda: None, on_lost=lambda _: None)
        journal = Journal(USECASE, self.log, Pseudonyms("key"), verbose=True)
        store = MemoryFeatureStore(PLAN).reader()
        decider = Decider(USECASE, store, lambda: Lineup(), clock=STOPPED, new_id=new_id, observer=journal)
        self.servicer = DecisionsServicer(
            {"fraud": Desk(decider, journal, Explainer(USECASE), traces=AnswerTraces(tracing))},
            max_subject_bytes=MAX_SUBJECT_BYTES,
        )

    @property
    def logged(self) -> list[DecisionLogged]:
        return [DecisionLogged.model_validate_json(value) for _, value in self.log.records]


@pytest.fixture
def captured() -> Iterator[list[structlog.typing.EventDict]]:
    structlog.reset_defaults()
    logging.root.setLevel(logging.DEBUG)
    with capture_logs() as lines:
        yield lines


async def decide(subject: bytes, request_id: str = "") -> DecideResponse:
    call = Made(DecideRequest(usecase="fraud", subject=subject, request_id=request_id))
    Scene().servicer.decide([call])
    return DecideResponse.FromString(await call.answer)


async def test_an_undeclared_field_is_named_to_the_caller_and_not_to_the_logs(
    captured: list[structlog.typing.EventDict],
) -> None:
    with pytest.raises(CallFailed, match=SECRET):
        await decide(payment(**{SECRET: 1}))
    assert SECRET not in str(captured)
    assert captured[0]["reason"].startswith("(undeclared): ")


async def test_a_declared_field_is_named_to_the_logs(captured: list[structlog.typing.EventDict]) -> None:
    with pytest.raises(CallFailed):
        await decide(payment(amount_cents=SECRET))
    assert SECRET not in str(captured)
    assert captured[0]["reason"].startswith("amount_cents: ")


@pytest.mark.parametrize("claimed", [SECRET, "x" * 65, "two\nlines"])
async def test_an_ill_formed_request_id_is_replaced(claimed: str, captured: list[structlog.typing.EventDict]) -> None:
    answer = await decide(payment(), claimed)
    assert len(answer.request_id) == 32
    with pytest.raises(CallFailed):
        await decide(b"{", claimed)
    assert len(captured) > 1
    assert not any(claimed in str(value) for line in captured for value in line.values())


async def test_a_well_formed_request_id_is_kept(captured: list[structlog.typing.EventDict]) -> None:
    assert (await decide(payment(), "order-7:2")).request_id == "order-7:2"
    assert "order-7:2" in [line.get("request_id") for line in captured]


async def test_calls_that_come_together_get_an_answer_each() -> None:
    scene = Scene()
    about = [DecideRequest(usecase="fraud", subject=payment(event_id=f"tx{n}"), request_id=f"r{n}") for n in range(50)]
    about[7] = DecideRequest(usecase="fraud", subject=payment(amount_cents=0), request_id="r7")
    about[9] = DecideRequest(usecase="poker", subject=payment())
    calls = [Made(request) for request in about]
    calls[11] = Made(b"\xff")
    calls[13].cancelled = True
    scene.servicer.decide(calls)
    outcomes = await asyncio.gather(
        *(call.answer for place, call in enumerate(calls) if place != 13), return_exceptions=True
    )
    outcomes.insert(13, asyncio.CancelledError())
    failed = {place: outcome for place, outcome in enumerate(outcomes) if isinstance(outcome, CallFailed)}
    assert {place: outcome.status for place, outcome in failed.items()} == {
        7: Status.INVALID_ARGUMENT,
        9: Status.NOT_FOUND,
        11: Status.INVALID_ARGUMENT,
    }
    answered = {place: o for place, o in enumerate(outcomes) if isinstance(o, bytes)}
    assert len(answered) == 46
    assert all(DecideResponse.FromString(answer).request_id == f"r{place}" for place, answer in answered.items())
    assert not calls[13].answer.done()
    assert {(logged.event_id, logged.request_id) for logged in scene.logged} == {(f"tx{n}", f"r{n}") for n in answered}


async def test_features_are_left_out_of_the_answer_and_kept_in_the_log() -> None:
    scene = Scene()
    request = DecideRequest(usecase="fraud", subject=payment(), omit_features=True)
    call = Made(request, {})
    scene.servicer.decide([call])
    answer = DecideResponse.FromString(await call.answer)
    assert not answer.features
    (logged,) = scene.logged
    assert logged.features


@pytest.mark.parametrize(
    ("asked", "logged"), [("", "critical"), ("sheddable", "sheddable"), ("4111 1111 1111 1111", "critical")]
)
async def test_the_log_has_what_a_decision_mattered_and_no_words_of_the_caller(asked: str, logged: str) -> None:
    scene = Scene()
    call = Made(DecideRequest(usecase="fraud", subject=payment()), {"flywheel-criticality": asked})
    scene.servicer.decide([call])
    await call.answer
    assert [decision.criticality for decision in scene.logged] == [logged]


async def test_a_batch_has_an_outcome_for_each_subject() -> None:
    scene = Scene()
    subjects = [payment(event_id="tx0"), payment(amount_cents=0), payment(event_id="tx2")]
    request = DecideBatchRequest(usecase="fraud", subjects=subjects, request_id="b")
    raw = await scene.servicer.decide_batch(Made(request.SerializeToString()))
    first, refused, last = DecideBatchResponse.FromString(raw).outcomes
    assert (first.decision.request_id, last.decision.request_id) == ("b:0", "b:2")
    assert refused.refusal.status == Status.INVALID_ARGUMENT
    assert refused.refusal.reason.startswith("amount_cents: ")
    assert [logged.event_id for logged in scene.logged] == ["tx0", "tx2"]


async def test_a_batch_is_answered_in_pieces_and_in_its_order() -> None:
    scene = Scene()
    subjects = [payment(event_id=f"tx{n}") for n in range(2 * MAX_ROWS + 3)]
    request = DecideBatchRequest(usecase="fraud", subjects=subjects, omit_features=True)
    call = Made(request.SerializeToString())
    # It has waited for longer than a decision may take; each of its decisions has that time for itself.
    call.arrived_s -= 10
    outcomes = DecideBatchResponse.FromString(await scene.servicer.decide_batch(call)).outcomes
    assert [outcome.decision.request_id.rpartition(":")[2] for outcome in outcomes] == [
        str(n) for n in range(len(subjects))
    ]
    assert [logged.event_id for logged in scene.logged] == [f"tx{n}" for n in range(len(subjects))]


async def test_a_subject_too_large_for_a_request_of_its_own_is_too_large_in_a_batch() -> None:
    request = DecideBatchRequest(usecase="fraud", subjects=[payment(), b" " * (MAX_SUBJECT_BYTES + 1)])
    with pytest.raises(CallFailed, match=r"subjects\.1: 4097 bytes where 4096"):
        await Scene().servicer.decide_batch(Made(request.SerializeToString()))


async def test_a_batch_too_large_or_for_nobody_is_refused() -> None:
    large = DecideBatchRequest(usecase="fraud", subjects=[b"{}"] * (MAX_BATCH + 1))
    with pytest.raises(CallFailed, match="accepted at once"):
        await Scene().servicer.decide_batch(Made(large.SerializeToString()))
    with pytest.raises(CallFailed, match="no use case 'poker'"):
        await Scene().servicer.decide_batch(Made(DecideBatchRequest(usecase="poker").SerializeToString()))
    with pytest.raises(CallFailed, match="no DecideBatchRequest"):
        await Scene().servicer.decide_batch(Made(b"\xff"))


async def test_what_cannot_be_explained_is_decided_all_the_same() -> None:
    scene = Scene()
    asked = [Made(DecideRequest(usecase="fraud", subject=payment(), explain=explain)) for explain in (0, 3)]
    scene.servicer.decide(asked)
    plain, explained = [DecideResponse.FromString(await call.answer) for call in asked]
    assert (plain.unexplained, explained.unexplained) == ("", "no_model")
    assert explained.action == plain.action
    assert len(scene.logged) == 2


async def test_a_decision_goes_on_the_trace_of_its_caller_stage_by_stage() -> None:
    trace_id, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with collecting() as collector:
        scene = Scene(tracing := OtlpTracing("serving", collector.url, share=0.0))
        calls = [
            Made(DecideRequest(usecase="fraud", subject=payment()), {"traceparent": f"00-{trace_id}-{caller}-01"}),
            Made(DecideRequest(usecase="fraud", subject=payment(event_id="untraced"))),
        ]
        scene.servicer.decide(calls)
        answer = DecideResponse.FromString(await calls[0].answer)
        await calls[1].answer
        await asyncio.to_thread(tracing.close)
    decide = collector.named("decide")
    assert (decide.trace_id.hex(), decide.parent_span_id.hex()) == (trace_id, caller)
    said = {each.key: each.value.string_value for each in decide.attributes}
    assert said["flywheel.decision_id"] == answer.decision_id
    stages = [span for _, span in collector.spans if span.parent_span_id == decide.span_id]
    assert [span.name for span in stages] == ["queue", "features", "model", "policy"]
    for earlier, later in itertools.pairwise(stages):
        assert earlier.end_time_unix_nano <= later.start_time_unix_nano + 1_000
    assert stages[-1].end_time_unix_nano <= decide.end_time_unix_nano + 1_000


async def test_a_refused_request_has_a_failed_span_on_the_trace_of_its_caller() -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with collecting() as collector:
        scene = Scene(tracing := OtlpTracing("serving", collector.url, share=0.0))
        call = Made(DecideRequest(usecase="fraud", subject=b"{}", request_id="r1"), {"traceparent": parent})
        scene.servicer.decide([call])
        with pytest.raises(CallFailed):
            await call.answer
        await asyncio.to_thread(tracing.close)
    decide = collector.named("decide")
    assert decide.parent_span_id.hex() == parent.split("-")[2]
    assert (decide.status.code, decide.status.message) == (2, "INVALID_ARGUMENT")
    assert [each.value.string_value for each in decide.attributes] == ["r1"]


async def test_what_nobody_foresaw_fails_the_calls_and_leaves_none_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    scene = Scene()
    monkeypatch.setattr(scene.log, "append_many", broken)
    calls = [Made(DecideRequest(usecase="fraud", subject=payment(), request_id=f"r{n}")) for n in range(3)]
    scene.servicer.decide(calls)
    failed = await asyncio.gather(*(call.answer for call in calls), return_exceptions=True)
    assert [error.status for error in failed if isinstance(error, CallFailed)] == [Status.INTERNAL] * 3
    assert "r2" in str(failed[2])


async def test_of_a_batch_whose_caller_has_gone_nothing_was_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    subjects = [payment(event_id=f"tx{n}", amount_cents=n) for n in range(2 * MAX_ROWS)]
    desk, refused = scene.servicer._desks["fraud"], list[tuple[str, str]]()
    monkeypatch.setattr(
        desk.journal, "refused", lambda status, request_id, _=None: refused.append((status, request_id))
    )
    decider = desk.decider
    decide, pieces = decider.decide, itertools.count()

    async def leave_at_the_second(requests: Sequence[DecisionRequest]) -> list[Decided | Refused]:
        if next(pieces):
            raise asyncio.CancelledError
        return await decide(requests)

    monkeypatch.setattr(decider, "decide", leave_at_the_second)
    request = DecideBatchRequest(usecase="fraud", subjects=subjects)
    with pytest.raises(asyncio.CancelledError):
        await scene.servicer.decide_batch(Made(request.SerializeToString()))
    assert scene.logged == []
    assert [name for name, _ in refused] == ["INVALID_ARGUMENT"] + ["CANCELLED"] * (len(subjects) - 1)
    assert len({request_id for _, request_id in refused}) == len(subjects)


async def test_an_explanation_that_fails_in_no_foreseen_way_keeps_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()

    async def explain(*_: object) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    monkeypatch.setattr(scene.servicer._desks["fraud"].explainer, "explain", explain)
    call = Made(DecideRequest(usecase="fraud", subject=payment(), explain=3))
    scene.servicer.decide([call])
    answer = DecideResponse.FromString(await call.answer)
    assert answer.action
    assert not answer.contributions


async def test_an_answer_that_cannot_be_written_is_missed_by_its_caller_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    encoder = scene.servicer._desks["fraud"].encoder
    encode = encoder.encode

    def fail_for_one(decision: Decided, *, features: bool) -> bytes:
        if decision.event_id == "tx1":
            raise ZeroDivisionError("nobody foresaw this")
        return encode(decision, features=features)

    monkeypatch.setattr(encoder, "encode", fail_for_one)
    calls = [Made(DecideRequest(usecase="fraud", subject=payment(event_id=f"tx{n}"))) for n in range(3)]
    scene.servicer.decide(calls)
    assert DecideResponse.FromString(await calls[0].answer).action
    assert DecideResponse.FromString(await calls[2].answer).action
    with pytest.raises(CallFailed) as failed:
        await calls[1].answer
    assert failed.value.status is Status.INTERNAL
