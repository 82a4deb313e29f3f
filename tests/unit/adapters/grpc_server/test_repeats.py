"""Calls that repeat one just refused are refused without being looked at; nobody can tell that from the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.adapters.grpc_server.frames import END_STREAM, HEAD_BYTES, PADDED, ErrorCode, Kind, frame, reset
from flywheel.adapters.grpc_server.limits import Limits
from flywheel.adapters.grpc_server.messages import prefixed
from flywheel.adapters.grpc_server.repeats import repeats
from flywheel.adapters.grpc_server.status import Refusal, Status
from tests.grpc_wire import GREETING, PATH, Desk, RecordingGate, Wire, greeted

BUSY = Refusal(Status.RESOURCE_EXHAUSTED, "busy")
STANDING = Refusal(Status.RESOURCE_EXHAUSTED, "busy", stands=True)

Piece = Callable[[Wire, int], bytes]

PIECES: dict[str, Piece] = {
    "whole": lambda wire, stream_id: wire.call(stream_id),
    "another head": lambda wire, stream_id: wire.call(stream_id, path="/test.Echo/Other"),
    "a new head": lambda wire, stream_id: wire.call(stream_id, number=str(stream_id)),
    "without a message": lambda wire, stream_id: wire.headers(stream_id, is_last=True),
    "unfinished": lambda wire, stream_id: wire.headers(stream_id),
    "in two": lambda wire, stream_id: (
        wire.headers(stream_id)
        + frame(Kind.DATA, 0, stream_id, prefixed(b"hello")[:4])
        + frame(Kind.DATA, END_STREAM, stream_id, prefixed(b"hello")[4:])
    ),
    "padded": lambda wire, stream_id: (
        wire.headers(stream_id) + frame(Kind.DATA, END_STREAM | PADDED, stream_id, b"\2" + prefixed(b"hi") + b"\0\0")
    ),
    "empty": lambda wire, stream_id: wire.headers(stream_id) + frame(Kind.DATA, END_STREAM, stream_id),
    "left": lambda wire, stream_id: wire.call(stream_id) + reset(stream_id, ErrorCode.CANCEL),
    "asked again": lambda wire, stream_id: wire.call(stream_id) + frame(Kind.PING, 0, 0, b"12345678"),
    "an older stream": lambda wire, stream_id: wire.call(stream_id) + wire.call(max(stream_id - 2, 1)),
    "even": lambda wire, stream_id: wire.call(stream_id) + wire.call(stream_id + 1),
    "crossed": lambda wire, stream_id: (
        wire.call(stream_id) + wire.headers(stream_id + 2) + frame(Kind.DATA, END_STREAM, stream_id, prefixed(b"x"))
    ),
    "a stray message": lambda wire, stream_id: (
        wire.call(stream_id) + frame(Kind.DATA, END_STREAM, stream_id + 2, prefixed(b"x"))
    ),
}


def said(pieces: Sequence[str], cuts: Sequence[int], refusal: Refusal) -> Wire:
    wire = greeted(gate=RecordingGate(refusal), limits=Limits(streams=3))
    data = b"".join(PIECES[piece](wire, 2 * place + 1) for place, piece in enumerate(pieces))
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in pairwise(places):
        wire.say(data[begin:end])
    return wire


@given(
    st.lists(st.sampled_from([*["whole"] * 8, *PIECES]), min_size=1, max_size=12),
    st.lists(st.integers(0, 2_000), max_size=3),
)
def test_whoever_repeats_a_refused_call_hears_the_same_as_if_it_was_looked_at(
    pieces: list[str], cuts: list[int]
) -> None:
    one_by_one, together = said(pieces, cuts, BUSY), said(pieces, cuts, STANDING)
    assert together.frames() == one_by_one.frames()
    gates = [wire.gate for wire in (one_by_one, together)]
    assert isinstance(gates[0], RecordingGate)
    assert isinstance(gates[1], RecordingGate)
    assert gates[1].looked + gates[1].repeats == gates[0].looked
    mine, others = together.connection, one_by_one.connection
    assert (mine.last_id, mine.streams, mine.unfinished) == (others.last_id, others.streams, others.unfinished)


def test_one_look_answers_all_that_repeat_a_call_in_one_read() -> None:
    gate = RecordingGate(STANDING)
    wire = greeted(gate=gate)
    # The first two teach the connection what the header block means.
    wire.say(wire.call(1) + wire.call(3))
    before = gate.looked
    wire.say(b"".join(wire.call(2 * n + 1) for n in range(2, 102)))
    assert (gate.looked - before, gate.repeats) == (1, 99)
    assert {answer.status for answer in wire.answers().values()} == {Status.RESOURCE_EXHAUSTED}
    assert len(wire.answers()) == 102


def test_a_refusal_stands_for_one_read_only() -> None:
    gate = RecordingGate(STANDING)
    wire = greeted(gate=gate)
    wire.say(wire.call(1) + wire.call(3))
    wire.say(wire.call(5))
    gate.refused = None
    wire.say(wire.call(7) + wire.call(9))
    assert gate.admitted == 2
    assert wire.answers()[9].message == b"hello"


@pytest.mark.parametrize(
    "between",
    [
        lambda wire: wire.headers(5, is_last=True),
        lambda wire: wire.headers(5) + frame(Kind.WINDOW_UPDATE, 0, 5, bytes(4)),
        lambda wire: wire.headers(5) + reset(5, ErrorCode.CANCEL),
        lambda wire: wire.headers(5),
    ],
    ids=["without a message", "broken", "left", "unfinished"],
)
def test_no_refusal_outlives_its_read(between: Callable[[Wire], bytes]) -> None:
    gate = RecordingGate(STANDING)
    wire = greeted(gate=gate)
    wire.say(wire.call(1) + wire.call(3))
    wire.say(between(wire))
    gate.refused = None
    wire.say(frame(Kind.DATA, END_STREAM, 5, prefixed(b"hello")) + wire.call(7) + wire.call(9))
    assert (gate.admitted, gate.repeats) == (2, 0)


@pytest.mark.parametrize("between", ["another call", "a place becomes free"])
def test_a_refusal_stands_only_until_something_else_happens(between: str) -> None:
    gate = RecordingGate()
    wire = greeted(gate=gate, unary={PATH: Desk()})
    wire.say(wire.call(1) + wire.call(3))
    gate.refused = STANDING
    head = wire.headers(5)
    something = wire.headers(7, number="7") if between == "another call" else reset(3, ErrorCode.CANCEL)
    message = frame(Kind.DATA, END_STREAM, 5, prefixed(b"hello"))
    wire.say(head + something + message + wire.call(9) + wire.call(11))
    # 9 is looked at for itself, and 11 is told what 9 was.
    assert gate.looked == (5 if between == "another call" else 4)
    assert gate.repeats == 1


def test_who_is_refused_is_told_before_the_calls_of_others_are_handed_over() -> None:
    gate = RecordingGate(STANDING)
    wire = greeted(gate=gate)
    wire.feed(wire.call(1))
    assert wire.answers()[1].status == Status.RESOURCE_EXHAUSTED


def test_after_the_last_call_of_a_connection_that_ends_no_repeat_is_taken() -> None:
    wire = Wire(gate=RecordingGate(STANDING))
    wire.say(GREETING)
    wire.say(wire.call(1) + wire.call(3))
    wire.connection.last_call_id = 7
    wire.say(b"".join(wire.call(n) for n in (5, 7, 9, 11)))
    assert max(wire.answers()) == 7


@pytest.mark.parametrize(
    ("calls", "others", "expected"),
    [
        ((3, 5), b"", [3, 5]),
        ((3,), b"\0\0\1", [3]),
        ((3, 5, 3), b"", [3, 5]),
        ((3, 9), b"", [3]),
        ((3, 4), b"", [3]),
        ((), b"", []),
    ],
    ids=["whole", "cut", "back", "beyond", "even", "nothing"],
)
def test_what_repeats_is_found_up_to_the_first_that_does_not(
    calls: Sequence[int], others: bytes, expected: list[int]
) -> None:
    wire = greeted()
    wire.headers(1)
    block = wire.headers(1)[HEAD_BYTES:]
    each = [wire.call(n) for n in calls]
    found = repeats(b"before" + b"".join(each) + others, 6, block, after_id=1, last_id=7)
    assert found.stream_ids == expected
    assert found.stop == 6 + sum(map(len, each[: len(expected)]))
    assert found.message_bytes == len(prefixed(b"hello")) * len(expected)
