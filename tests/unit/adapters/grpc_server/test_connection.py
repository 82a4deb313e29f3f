"""Frames in, calls out: however the bytes are cut, whatever they are, each admitted call ends once."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Mapping
from itertools import pairwise
from time import perf_counter
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.adapters.grpc_server import answered_early
from flywheel.adapters.grpc_server.frames import (
    END_HEADERS,
    END_STREAM,
    PADDED,
    ErrorCode,
    Kind,
    frame,
    reset,
    window_update,
)
from flywheel.adapters.grpc_server.limits import Limits
from flywheel.adapters.grpc_server.messages import prefixed
from flywheel.adapters.grpc_server.status import Refusal, Status
from tests.grpc_wire import GREETING, PATH, Desk, RecordingGate, Wire, echo, ended, greeted

_MESSAGES = st.lists(st.binary(max_size=200), min_size=1, max_size=12)


@given(_MESSAGES, st.lists(st.integers(0, 5_000), max_size=30))
def test_however_the_bytes_are_cut_the_answers_are_the_same(messages: list[bytes], cuts: list[int]) -> None:
    wire = Wire()
    sent = GREETING + b"".join(wire.call(2 * n + 1, message) for n, message in enumerate(messages))
    places = sorted({0, len(sent), *(cut % len(sent) for cut in cuts)})
    for begin, end in pairwise(places):
        wire.say(sent[begin:end])
    answers = wire.answers()
    assert [answers[2 * n + 1].message for n in range(len(messages))] == messages
    assert {answer.status for answer in answers.values()} == {0}
    assert ended(wire) == [Status.OK] * len(messages)


@given(st.binary(max_size=2_000))
def test_no_bytes_whatever_get_an_exception_out_of_it(garbage: bytes) -> None:
    for begin in (b"", GREETING):
        wire = Wire()
        wire.feed(begin + garbage)
        wire.turn()
        wire.connection.connection_lost(None)


@given(_MESSAGES, st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 255)), min_size=1, max_size=10))
def test_bytes_that_change_on_the_way_end_every_call_all_the_same(
    messages: list[bytes], changes: list[tuple[int, int]]
) -> None:
    wire = Wire()
    sent = bytearray(GREETING + b"".join(wire.call(2 * n + 1, message) for n, message in enumerate(messages)))
    for place, byte in changes:
        sent[place % len(sent)] = byte
    wire.say(bytes(sent))
    wire.connection.connection_lost(None)
    assert len(ended(wire)) == cast(RecordingGate, wire.gate).admitted
    assert wire.connection.kept_bytes == 0


_STEPS = st.lists(
    st.tuples(st.sampled_from(["headers", "half", "rest", "reset", "reply", "fail", "turn"]), st.integers(0, 4)),
    max_size=40,
)


@given(_STEPS)
def test_an_admitted_call_ends_exactly_once_in_whatever_order_things_happen(steps: list[tuple[str, int]]) -> None:
    desk = Desk()
    wire = greeted(unary={PATH: desk})
    body = prefixed(b"0123456789")
    opened: list[int] = []
    for step, which in steps:
        if step == "headers":
            opened.append(2 * len(opened) + 1)
            wire.feed(wire.headers(opened[-1]))
        elif step == "turn":
            wire.turn()
        elif step in ("reply", "fail") and desk.calls:
            call = desk.calls[which % len(desk.calls)]
            call.reply(b"") if step == "reply" else call.fail(Status.ABORTED, "so")
        elif opened and step in ("half", "rest", "reset"):
            stream_id = opened[which % len(opened)]
            data = {"half": frame(Kind.DATA, 0, stream_id, body[:7]), "rest": frame(Kind.DATA, 1, stream_id, body[7:])}
            wire.feed(data.get(step, reset(stream_id, ErrorCode.CANCEL)))
    wire.turn()
    wire.connection.connection_lost(None)
    # Ended are those whose message came whole, and nobody else.
    assert len(ended(wire)) == cast(RecordingGate, wire.gate).admitted
    assert wire.connection.unfinished == 0
    assert wire.connection.kept_bytes == 0
    assert not wire.connection.streams


def test_a_call_asks_for_its_place_when_all_of_it_has_come() -> None:
    desk, gate = Desk(), RecordingGate()
    wire = greeted(unary={PATH: desk}, gate=gate)
    wire.say(wire.headers(1) + wire.headers(3) + wire.headers(5))
    assert (gate.admitted, wire.connection.unfinished) == (0, 3)
    before_s = perf_counter()
    wire.say(frame(Kind.DATA, END_STREAM, 1, prefixed(b"hello")) + reset(3, ErrorCode.CANCEL))
    assert (gate.admitted, wire.connection.unfinished) == (1, 1)
    assert desk.calls[0].arrived_s >= before_s
    gate.refused = Refusal(Status.RESOURCE_EXHAUSTED, "busy")
    wire.say(frame(Kind.DATA, END_STREAM, 5, prefixed(b"hello")))
    assert (wire.answers()[5].status, wire.answers()[5].is_ended) == (Status.RESOURCE_EXHAUSTED, True)
    desk.calls[0].reply(b"")
    wire.connection.connection_lost(None)
    assert (len(desk.calls), ended(wire), wire.connection.unfinished) == (1, [Status.OK], 0)


def test_unfinished_calls_of_a_connection_are_bounded_and_whole_ones_are_not() -> None:
    wire = greeted(limits=Limits(unfinished=4))
    wire.say(b"".join(wire.call(2 * n + 1) for n in range(10)))
    assert {answer.status for answer in wire.answers().values()} == {0}
    wire.say(b"".join(wire.headers(2 * n + 1) for n in range(10, 15)))
    assert wire.answers()[29].reset is ErrorCode.REFUSED_STREAM
    wire.say(frame(Kind.DATA, END_STREAM, 21, prefixed(b"hello")) + wire.call(31))
    assert (wire.answers()[21].status, wire.answers()[31].status) == (0, 0)


def test_calls_of_one_turn_are_handed_over_together() -> None:
    desk = Desk()
    wire = greeted(unary={PATH: desk})
    wire.feed(b"".join(wire.call(2 * n + 1) for n in range(5)))
    wire.feed(wire.call(11))
    wire.turn()
    assert desk.cohorts == [6]


class BrokenGate(RecordingGate):
    """Fails to write down how calls end."""

    def ended(self, path: str, metadata: Mapping[str, str], seconds: float, outcome: Status) -> None:
        super().ended(path, metadata, seconds, outcome)
        raise ValueError("nobody foresaw it")


def test_a_gate_that_fails_stops_neither_the_port_nor_what_others_hear() -> None:
    desk, gate = Desk(), BrokenGate()
    wire = greeted(gate=gate, unary={PATH: echo, "/test.Echo/Later": desk})
    wire.say(wire.call(1) + wire.call(3))
    wire.say(b"".join(wire.call(n, path="/test.Echo/Later") for n in (5, 7)))
    wire.connection.connection_lost(None)
    assert len(desk.calls) == 2
    assert len(gate.ended_as) == gate.admitted == 4


def test_a_call_that_is_reset_before_its_turn_is_not_handed_over() -> None:
    desk = Desk()
    wire = greeted(unary={PATH: desk})
    wire.say(wire.call(1) + wire.call(3) + reset(1, ErrorCode.CANCEL))
    assert [call.cancelled for call in desk.calls] == [False]
    assert ended(wire) == [Status.CANCELLED]


def test_who_is_cancelled_hears_of_it_and_its_answer_is_dropped() -> None:
    desk, heard = Desk(), list[str]()
    wire = greeted(unary={PATH: desk})
    wire.say(wire.call(1))
    desk.calls[0].on_cancel(lambda: heard.append("before"))
    wire.say(reset(1, ErrorCode.CANCEL))
    desk.calls[0].on_cancel(lambda: heard.append("after"))
    desk.calls[0].reply(b"late")
    wire.turn()
    assert heard == ["before", "after"]
    assert wire.answers() == {}


def test_a_refusal_is_one_frame_and_nothing_of_the_message_is_kept() -> None:
    refusal = Refusal(Status.RESOURCE_EXHAUSTED, "busy", {"grpc-retry-pushback-ms": "20"})
    wire = greeted(gate=RecordingGate(refusal))
    wire.say(wire.headers(1) + frame(Kind.DATA, 0, 1, prefixed(b"x" * 1_000)[:500]))
    answer = wire.answers()[1]
    assert answer.status == Status.RESOURCE_EXHAUSTED
    assert ("grpc-retry-pushback-ms", "20") in answer.headers
    assert (answer.is_ended, answer.reset) == (True, ErrorCode.NO_ERROR)
    assert wire.connection.kept_bytes == 0
    wire.say(frame(Kind.DATA, END_STREAM, 1, b"x" * 505) + wire.headers(3))
    assert wire.goaway is None
    wire.say(frame(Kind.DATA, END_STREAM, 3, b"") + frame(Kind.DATA, END_STREAM, 1, b""))
    assert wire.answers()[1].reset is ErrorCode.STREAM_CLOSED


def test_who_is_answered_before_the_end_of_the_request_is_told_to_send_no_more() -> None:
    wire = greeted(limits=Limits(message_bytes=10))
    wire.say(wire.headers(1) + frame(Kind.DATA, 0, 1, prefixed(b"x" * 50)[:20]))
    answer = wire.answers()[1]
    assert (answer.status, answer.is_ended, answer.reset) == (Status.RESOURCE_EXHAUSTED, True, ErrorCode.NO_ERROR)


def test_what_is_remembered_of_answered_calls_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answered_early, "_KEPT", 10)
    wire = greeted(gate=RecordingGate(Refusal(Status.UNAVAILABLE, "no")))
    wire.say(b"".join(wire.headers(2 * n + 1) for n in range(20)))
    # The newest are passed over, the oldest are as good as never known.
    wire.say(frame(Kind.DATA, END_STREAM, 39))
    assert wire.answers()[39].reset is ErrorCode.NO_ERROR
    wire.say(frame(Kind.DATA, END_STREAM, 1))
    assert wire.answers()[1].reset is ErrorCode.STREAM_CLOSED


def test_a_whole_refused_call_is_not_reset_as_well() -> None:
    wire = greeted(gate=RecordingGate(Refusal(Status.UNAVAILABLE, "no")))
    wire.say(wire.call(1))
    assert wire.answers()[1].reset is None


@pytest.mark.parametrize("unpacked", [100, 100_000_000])
def test_a_compressed_message_is_unpacked_up_to_the_limit(unpacked: int) -> None:
    wire = greeted(limits=Limits(message_bytes=1_000_000))
    packed = gzip.compress(b"x" * unpacked)
    body = b"\x01" + len(packed).to_bytes(4, "big") + packed
    pieces = [body[at : at + 16_000] for at in range(0, len(body), 16_000)]
    wire.say(wire.headers(1, grpc_encoding="gzip") + b"".join(frame(Kind.DATA, 0, 1, piece) for piece in pieces))
    tracemalloc.start()
    wire.say(frame(Kind.DATA, END_STREAM, 1))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 5_000_000
    answer = wire.answers()[1]
    if unpacked == 100:
        assert (answer.status, answer.message) == (0, b"x" * 100)
    else:
        assert answer.status == Status.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("extra", "status"),
    [
        ({"grpc_encoding": "snappy"}, Status.UNIMPLEMENTED),
        ({"grpc_timeout": "soon"}, Status.INTERNAL),
        ({"grpc_timeout": "999999999S"}, Status.INTERNAL),
    ],
)
def test_a_head_that_cannot_be_served_is_answered(extra: dict[str, Any], status: Status) -> None:
    wire = greeted()
    wire.say(wire.call(1, **extra))
    assert wire.answers()[1].status == status
    assert ended(wire) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\x00\x00\x00",
        prefixed(b"abc")[:-1],
        prefixed(b"abc") + b"d",
        b"\x01\x00\x00\x00\x00",
        b"\x02\x00\x00\x00\x00",
    ],
)
def test_a_message_that_is_none_is_an_error_of_that_call(body: bytes) -> None:
    wire = greeted()
    wire.say(wire.headers(1) + frame(Kind.DATA, END_STREAM, 1, body))
    assert wire.answers()[1].status == Status.INTERNAL
    wire.say(wire.call(3))
    assert wire.answers()[3].status == 0
    assert ended(wire)[-1] is Status.OK
    assert len(ended(wire)) == cast(RecordingGate, wire.gate).admitted


def test_padding_is_passed_over_and_given_back_to_the_stream() -> None:
    wire = greeted()
    body = prefixed(b"hello")
    wire.say(wire.headers(1) + frame(Kind.DATA, PADDED, 1, b"\x07" + body[:4] + b"\0" * 7))
    wire.say(frame(Kind.DATA, END_STREAM | PADDED, 1, b"\x00" + body[4:]))
    assert wire.answers()[1].message == b"hello"
    assert (Kind.WINDOW_UPDATE, 0, 1, (8).to_bytes(4, "big")) in wire.frames()


def test_a_header_block_in_many_frames_is_one() -> None:
    wire = greeted()
    block = wire.headers(1)[9:]
    pieces = [block[:5], block[5:20], block[20:]]
    wire.say(frame(Kind.HEADERS, 0, 1, pieces[0]) + frame(Kind.CONTINUATION, 0, 1, pieces[1]))
    wire.say(frame(Kind.CONTINUATION, END_HEADERS, 1, pieces[2]) + frame(Kind.DATA, END_STREAM, 1, prefixed(b"m")))
    assert wire.answers()[1].message == b"m"


@pytest.mark.parametrize(
    "flood",
    [
        lambda wire, n: wire.headers(2 * n + 1) + reset(2 * n + 1, ErrorCode.CANCEL),
        lambda _wire, _n: frame(Kind.PING, 0, 0, b"12345678"),
        lambda _wire, _n: frame(Kind.SETTINGS, 0, 0),
        lambda _wire, _n: frame(Kind.PRIORITY, 0, 1, b"\0\0\0\7\1"),
        lambda wire, n: (wire.headers(1) if not n else b"") + frame(Kind.DATA, 0, 1),
        lambda _wire, n: (frame(Kind.HEADERS, 0, 1) if not n else b"") + frame(Kind.CONTINUATION, 0, 1),
        lambda _wire, _n: frame(77, 0, 0),
        lambda _wire, _n: window_update(0, 1),
        lambda wire, n: wire.headers(2 * n + 1, path="no path") + frame(Kind.DATA, END_STREAM, 2 * n + 1) * 2,
    ],
    ids=["rapid reset", "pings", "settings", "priorities", "no data", "continuations", "unknown", "windows", "closed"],
)
def test_a_flood_ends_the_connection(flood: Any) -> None:
    wire = greeted(limits=Limits(control_frames_per_s=50))
    for n in range(200):
        if not wire.transport.is_closing():
            wire.say(flood(wire, n))
    assert wire.goaway is ErrorCode.ENHANCE_YOUR_CALM
    assert wire.transport.is_closing()
    assert len(ended(wire)) == cast(RecordingGate, wire.gate).admitted


def test_too_many_calls_at_once_are_refused_so_that_they_can_be_sent_again() -> None:
    desk = Desk()
    wire = greeted(unary={PATH: desk}, limits=Limits(streams=3))
    wire.say(b"".join(wire.call(2 * n + 1) for n in range(5)))
    assert {stream: answer.reset for stream, answer in wire.answers().items()} == dict.fromkeys(
        (7, 9), ErrorCode.REFUSED_STREAM
    )
    desk.calls[0].reply(b"")
    wire.say(wire.call(11))
    assert len(desk.calls) == 4


def test_headers_that_are_too_long_are_refused_and_the_rest_goes_on() -> None:
    wire = greeted(limits=Limits(header_list_bytes=2_000))
    wire.say(wire.call(1, extra="x" * 3_000) + wire.call(3))
    assert (":status", "431") in wire.answers()[1].headers
    assert wire.answers()[3].status == 0
    wire.say(wire.call(5, extra="y" * 3_000))
    assert (":status", "431") in wire.answers()[5].headers


def test_unfinished_messages_are_bounded_over_all_calls() -> None:
    wire = greeted(limits=Limits(message_bytes=100_000, kept_bytes=20_000))
    begin = prefixed(b"x" * 50_000)[:8_000]
    wire.say(b"".join(wire.headers(n) + frame(Kind.DATA, 0, n, begin) for n in (1, 3, 5)))
    assert [stream for stream, answer in wire.answers().items() if answer.status == 8] == [5]
    assert wire.connection.kept_bytes == 16_000


@pytest.mark.parametrize("refused", [None, Refusal(Status.UNAVAILABLE, "no")], ids=["served", "refused"])
def test_a_frame_with_each_call_that_is_answered_is_no_flood(refused: Refusal | None) -> None:
    wire = greeted(limits=Limits(control_frames_per_s=50), gate=RecordingGate(refused))
    for n in range(500):
        wire.say(wire.call(2 * n + 1) + window_update(0, 10))
    assert wire.goaway is None
    assert len(wire.answers()) == 500


@pytest.mark.parametrize("early", [window_update(3, 100), reset(3, ErrorCode.CANCEL)], ids=["window", "reset"])
def test_frames_of_a_stream_that_was_never_opened_break_the_protocol(early: bytes) -> None:
    wire = greeted()
    wire.say(wire.call(1) + early)
    assert wire.goaway is ErrorCode.PROTOCOL_ERROR
