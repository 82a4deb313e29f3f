"""The gate counts what is under way, says why it refuses and when to come again, and lets be what costs nothing."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import uvloop
from prometheus_client import REGISTRY

from flywheel.adapters.grpc_server.status import Refusal, Status
from flywheel.contracts.metadata import CRITICALITY
from flywheel.kernel.admission import Admission, Criticality
from flywheel.kernel.concurrency import Bounds
from services.serving.port.gate import PUSHBACK, AdmissionGate, retry_after_s
from services.serving.port.loop_lag import LoopLag
from tests.serving_parts import USECASE

DECIDE = "/flywheel.v1.Decisions/Decide"
INFER = "/inference.GRPCInferenceService/ModelInfer"
NAME = "gated"


class Scene:
    def __init__(self, criticality: Criticality = Criticality.CRITICAL, room: float = 10) -> None:
        self.now_s = 0.0
        self.admission = Admission(Bounds(budget_s=0.05, highest=room, first=room))
        usecase = replace(USECASE, name=NAME, criticality=criticality)
        self.gate = AdmissionGate(usecase, self.admission, steady_s=lambda: self.now_s)

    def asked(self, times: int, path: str = DECIDE, **metadata: str) -> list[Refusal | None]:
        words = {name.replace("_", "-"): value for name, value in metadata.items()}
        return [self.admitted(path, words) for _ in range(times)]

    def admitted(self, path: str, metadata: dict[str, str], timeout_s: float = math.inf) -> Refusal | None:
        """Both steps, as of a request whose message comes with its headers."""
        return self.gate.look(path, metadata, timeout_s) or self.gate.begin(path, metadata, timeout_s)


def sample(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, {"usecase": NAME} | labels) or 0.0


def test_above_the_limit_requests_are_told_when_to_come_again() -> None:
    scene = Scene()
    answers = scene.asked(20)
    refusals = [answer for answer in answers if answer is not None]
    assert (answers[:10], len(refusals)) == ([None] * 10, 10)
    assert {refusal.status for refusal in refusals} == {Status.RESOURCE_EXHAUSTED}
    assert all(refusal.reason.startswith("overloaded: ") for refusal in refusals)
    assert len({refusal.trailers[PUSHBACK] for refusal in refusals}) > 2
    # Each is made once, with the bytes that say so.
    assert len({id(refusal) for refusal in refusals}) < 10


def test_an_ended_request_makes_room_however_it_ended() -> None:
    scene = Scene()
    for outcome in Status:
        assert scene.asked(11)[-1] is not None
        for _ in range(10):
            scene.gate.ended(DECIDE, {}, 0.001, outcome)
        assert scene.admission.in_flight == 0


@pytest.mark.parametrize(
    ("path", "asked", "room"),
    [(DECIDE, "", 10), (DECIDE, "critical", 10), (DECIDE, "sheddable", 7), (DECIDE, "nonsense", 10), (INFER, "", 9)],
)
def test_a_caller_may_lower_its_criticality_and_rows_for_a_model_have_less(path: str, asked: str, room: int) -> None:
    scene = Scene()
    metadata = {CRITICALITY: asked} if asked else {}
    assert sum(scene.admitted(path, metadata) is None for _ in range(20)) == room


def test_nobody_matters_more_than_is_declared() -> None:
    scene = Scene(Criticality.SHEDDABLE)
    assert scene.asked(20, flywheel_criticality="critical").count(None) == 7


@pytest.mark.parametrize(
    "path",
    ["/grpc.health.v1.Health/Check", "/inference.GRPCInferenceService/ServerReady"],
)
def test_what_costs_nothing_is_always_admitted_and_not_counted(path: str) -> None:
    scene = Scene()
    scene.asked(20)
    assert scene.asked(5, path) == [None] * 5
    scene.gate.ended(path, {}, 0.001, Status.OK)
    assert scene.admission.in_flight == 10


def test_a_request_whose_message_has_yet_to_come_takes_no_place() -> None:
    scene = Scene()
    assert [scene.gate.look(DECIDE, {}) for _ in range(40)] == [None] * 40
    assert scene.admission.in_flight == 0
    assert [scene.gate.begin(DECIDE, {}) for _ in range(10)] == [None] * 10
    # There is no room any more: neither for those that looked when there was, nor for whoever looks now.
    for refusal in (scene.gate.begin(DECIDE, {}), scene.gate.look(DECIDE, {})):
        assert refusal is not None
        assert refusal.status is Status.RESOURCE_EXHAUSTED


async def test_metrics_tell_the_limit_who_is_under_way_and_who_was_refused() -> None:
    scene = Scene()
    before = sample("flywheel_serving_not_admitted_total", criticality="sheddable", reason="limit")
    scene.gate.start()
    scene.asked(3)
    scene.asked(10, flywheel_criticality="sheddable")
    scene.gate.stop()
    assert sample("flywheel_serving_admission_limit") == 10
    assert sample("flywheel_serving_in_flight_requests", criticality="critical") == 3
    assert sample("flywheel_serving_in_flight_requests", criticality="sheddable") == 4
    assert sample("flywheel_serving_not_admitted_total", criticality="sheddable", reason="limit") == before + 6


def test_over_http_a_refusal_says_whole_seconds() -> None:
    refusal = Refusal(Status.RESOURCE_EXHAUSTED, "", {PUSHBACK: "1500"})
    assert retry_after_s(refusal) == 2
    assert retry_after_s(Refusal(Status.DEADLINE_EXCEEDED, "")) is None


async def test_a_busy_loop_is_late_and_an_idle_one_is_not() -> None:
    told: list[float] = []
    heard = asyncio.Event()

    def tell(mean_s: float) -> None:
        told.append(mean_s)
        heard.set()

    async def next_told() -> float:
        heard.clear()
        await heard.wait()
        return told[-1]

    lag = LoopLag(tell)
    lag.start()
    async with asyncio.timeout(10):
        await next_told()
        time.sleep(0.2)
        assert lag.overdue_s(time.perf_counter()) > 0.1
        assert 0.05 < await next_told() < 0.2
        while await next_told() > 0.01:
            pass
    lag.stop()
    assert lag.overdue_s(math.inf) == 0.0


async def test_that_the_loop_stands_is_seen_from_another_thread() -> None:
    scene = Scene()
    gate = AdmissionGate(USECASE, scene.admission)
    gate.start()
    with ThreadPoolExecutor(1) as other:

        def look_later() -> float:
            time.sleep(0.2)
            return gate.loop_stands_s()

        # Nothing is awaited: the loop does not turn until the other thread has looked.
        assert 0.1 < other.submit(look_later).result() < 10
    gate.stop()
    assert gate.loop_stands_s() == 0


@pytest.mark.parametrize("loop_of", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_what_waited_behind_a_busy_loop_is_old_and_what_comes_afterwards_is_not(
    loop_of: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    gate = AdmissionGate(replace(USECASE, name="paused"), Admission(Bounds(budget_s=0.05, highest=10, first=10)))

    async def read_after_pause() -> tuple[Refusal | None, Refusal | None, Refusal | None]:
        loop, (ours, theirs) = asyncio.get_running_loop(), socket.socketpair()
        seen: asyncio.Queue[tuple[Refusal | None, Refusal | None]] = asyncio.Queue()

        def read() -> None:
            ours.recv(1)
            seen.put_nowait((gate.look(DECIDE, {}, 0.05), gate.look(DECIDE, {}, 10.0)))

        ours.setblocking(False)
        loop.add_reader(ours, read)
        gate.start()
        theirs.send(b"x")
        # The process is away.
        time.sleep(0.3)
        impatient, patient = await seen.get()
        # The timer that tells of the pause comes after the sockets.
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        theirs.send(b"y")
        fresh, _ = await seen.get()
        gate.stop()
        loop.remove_reader(ours)
        ours.close()
        theirs.close()
        return impatient, patient, fresh

    with asyncio.Runner(loop_factory=loop_of) as runner:
        impatient, patient, fresh = runner.run(read_after_pause())
    assert impatient is not None
    assert (impatient.status, dict(impatient.trailers)) == (Status.DEADLINE_EXCEEDED, {})
    assert (patient, fresh) == (None, None)


def test_repeats_of_a_refused_request_are_counted_and_told_when_to_come_again_like_it() -> None:
    scene, counted = Scene(), {"criticality": "critical", "reason": "limit"}
    refusal = scene.asked(11)[-1]
    assert refusal is not None
    assert refusal.stands
    scene.gate.stop()
    before = sample("flywheel_serving_not_admitted_total", **counted)
    told = list(scene.gate.repeated(DECIDE, {}, refusal, 40))
    scene.gate.stop()
    assert sample("flywheel_serving_not_admitted_total", **counted) - before == 40
    assert len(told) == 40
    assert len({each.trailers[PUSHBACK] for each in told}) > 2


def test_a_refusal_for_the_sake_of_others_does_not_stand() -> None:
    scene = Scene()
    for _ in range(30):
        scene.asked(40, flywheel_criticality="sheddable")
        critical = [scene.admitted(DECIDE, {}) for _ in range(20)]
        for _ in range(scene.admission.in_flight):
            scene.gate.ended(DECIDE, {}, 0.001, Status.OK)
        scene.now_s += 0.1
    assert None in critical
    answers = scene.asked(200, flywheel_criticality="sheddable")
    ways = {answer.stands for answer in answers if answer is not None and "matter more" in answer.reason}
    assert ways == {False}
