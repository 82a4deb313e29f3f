"""What a refusal costs the port, from the bytes of a call to those of its answer, in one process without a socket."""

from __future__ import annotations

from time import process_time

from benchmarks.card_scoring import usecase
from benchmarks.figures import Figure
from benchmarks.serving_bench import Pace
from benchmarks.serving_scene import Scene
from benchmarks.serving_servers import DECIDE, cards, decisions
from flywheel.kernel.admission import Admission
from flywheel.kernel.concurrency import Bounds
from services.serving.port.gate import AdmissionGate
from tests.grpc_wire import Desk, Wire, greeted

_CALLS, _READS = 400, 60
_HEADS = ("one", "another")

GOALS: dict[str, str] = {}


def measure(scene: Scene, pace: Pace) -> dict[str, Figure]:
    """CPU time of a refusal of many read at once: all alike, and each with another head than the one before."""
    del scene
    reads = max(round(_READS * pace.share), 5)
    return {
        "refusal_alike_us": round(1e6 * _least_s(_HEADS[:1], reads), 2),
        "refusal_each_us": round(1e6 * _least_s(_HEADS, reads), 2),
    }


def _least_s(heads: tuple[str, ...], reads: int) -> float:
    """Of some reads of many calls the quickest, by call."""
    wire, message = _full(), next(iter(decisions(cards())))
    least_s, stream_id = float("inf"), 1
    for _ in range(reads):
        calls = []
        for number in range(_CALLS):
            calls.append(wire.call(stream_id, message, path=DECIDE, x_caller=heads[number % len(heads)]))
            stream_id += 2
        data = b"".join(calls)
        began_s = process_time()
        wire.feed(data)
        least_s = min(least_s, (process_time() - began_s) / _CALLS)
        wire.turn()
    return least_s


def _full() -> Wire:
    """A port whose every place is taken."""
    admission = Admission(Bounds(budget_s=0.05, highest=1, first=1))
    gate = AdmissionGate(usecase, admission)
    wire = greeted(unary={DECIDE: Desk()}, gate=gate)
    assert gate.begin(DECIDE, {}) is None
    return wire
