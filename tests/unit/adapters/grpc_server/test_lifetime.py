"""How long a client may take for what, and how its connection ends."""

from __future__ import annotations

import pytest

from flywheel.adapters.grpc_server.frames import (
    ACK,
    ErrorCode,
    Kind,
    frame,
    goaway,
    reset,
    window_update,
)
from flywheel.adapters.grpc_server.limits import Limits
from flywheel.adapters.grpc_server.status import Status
from tests.grpc_wire import GREETING, PATH, Desk, Wire, ended, greeted, window


def test_a_request_sent_too_slowly_is_given_up() -> None:
    wire = greeted(limits=Limits(request_s=5.0))
    wire.say(wire.headers(1) + frame(Kind.DATA, 0, 1, b"\0"))
    begun_s = wire.connection.read_s
    wire.connection.check(begun_s + 4.9)
    wire.turn()
    assert (wire.answers(), wire.connection.unfinished) == ({}, 1)
    wire.connection.check(begun_s + 5.1)
    wire.turn()
    assert wire.answers()[1].status == Status.DEADLINE_EXCEEDED
    assert (ended(wire), wire.connection.unfinished) == ([], 0)
    assert wire.answers()[1].status == Status.DEADLINE_EXCEEDED


def test_a_client_that_does_not_read_is_not_read_either_and_is_cut_off_at_last() -> None:
    wire = greeted(limits=Limits(stalled_s=5.0))
    wire.connection.pause_writing()
    assert wire.transport.reading == ["paused"]
    now_s = wire.connection.read_s
    wire.connection.check(now_s + 4.0)
    assert not wire.transport.is_closing()
    wire.connection.resume_writing()
    assert wire.transport.reading == ["paused", "resumed"]
    wire.connection.check(now_s + 60.0)
    assert not wire.transport.is_closing()
    wire.connection.pause_writing()
    wire.connection.check(now_s + 120.0)
    assert wire.transport.is_aborted


def test_a_client_that_never_opens_its_window_is_cut_off() -> None:
    wire = greeted(limits=Limits(stalled_s=5.0))
    now_s = wire.connection.read_s
    wire.connection.check(now_s)
    wire.say(window(0) + wire.call(1))
    wire.connection.check(now_s + 4.0)
    assert not wire.transport.is_closing()
    wire.connection.check(now_s + 6.0)
    assert wire.transport.is_aborted


@pytest.mark.parametrize(("step_bytes", "is_kept"), [(1, False), (100, True)])
def test_a_client_that_opens_its_window_a_crack_is_cut_off_as_well(step_bytes: int, is_kept: bool) -> None:
    wire = greeted(limits=Limits(stalled_s=5.0, released_bytes_per_s=50))
    wire.say(window(0) + wire.call(1, bytes(10_000)))
    now_s = wire.connection.read_s
    for second in range(20):
        if not wire.transport.is_closing():
            wire.say(window_update(1, step_bytes))
            wire.connection.check(now_s + second)
    assert wire.transport.is_aborted != is_kept


def test_who_says_nothing_or_not_http2_is_sent_away() -> None:
    silent = Wire(limits=Limits(handshake_s=5.0))
    silent.connection.check(silent.connection.read_s + 6.0)
    assert silent.transport.is_aborted
    chatty = Wire()
    chatty.say(b"GET / HTTP/1.1\r\n\r\n")
    assert chatty.goaway is ErrorCode.PROTOCOL_ERROR


def test_who_sends_its_greeting_in_trickles_or_not_at_all_is_cut_off() -> None:
    wire = Wire(limits=Limits(handshake_s=5.0))
    made_s = wire.connection.read_s
    wire.feed(GREETING[:24])
    wire.connection.check(made_s + 4.9)
    assert not wire.transport.is_closing()
    wire.connection.read_s = made_s + 5.0
    wire.connection.check(made_s + 5.2)
    assert wire.transport.is_aborted


def test_half_a_header_block_is_waited_for_as_long_as_a_request() -> None:
    wire = greeted(limits=Limits(request_s=5.0))
    wire.feed(frame(Kind.HEADERS, 0, 1, b"\x82"))
    begun_s = wire.connection.read_s
    wire.feed(frame(Kind.CONTINUATION, 0, 1, b"\x86"))
    wire.connection.check(begun_s + 4.9)
    assert not wire.transport.is_closing()
    wire.connection.check(begun_s + 5.1)
    assert wire.transport.is_aborted


def test_an_idle_client_is_asked_to_go() -> None:
    wire = greeted(limits=Limits(idle_s=5.0))
    wire.connection.check(wire.connection.read_s + 6.0)
    wire.turn()
    assert wire.goaway is ErrorCode.NO_ERROR


def test_an_old_connection_is_asked_to_go_and_its_calls_are_finished() -> None:
    desk = Desk()
    wire = greeted(unary={PATH: desk}, limits=Limits(age_s=100.0))
    made_s = wire.connection.read_s
    wire.say(wire.call(1))
    heard = []
    for age_s in (89.0, 111.0):
        wire.connection.check(made_s + age_s)
        wire.turn()
        heard.append(wire.goaway)
    assert heard == [None, ErrorCode.NO_ERROR]
    wire.say(wire.call(3))
    for call in desk.calls:
        call.reply(b"")
    wire.connection.check(made_s + 113.0)
    wire.turn()
    assert {stream: answer.status for stream, answer in wire.answers().items()} == {1: 0, 3: 0}
    assert wire.transport.is_closing()


def test_connections_of_one_age_do_not_all_go_at_once() -> None:
    wires = [greeted(limits=Limits(age_s=100.0)) for _ in range(40)]
    for wire in wires:
        wire.connection.check(wire.connection.read_s + 100.0)
        wire.turn()
    assert {wire.goaway for wire in wires} == {None, ErrorCode.NO_ERROR}


def test_a_drain_serves_what_was_sent_before_the_client_knew_and_nothing_after() -> None:
    desk = Desk()
    wire = greeted(unary={PATH: desk})
    wire.say(wire.call(1))
    wire.connection.depart()
    wire.say(wire.call(3))
    pings = [payload for kind, flags, _, payload in wire.frames() if kind == Kind.PING and not flags]
    wire.say(frame(Kind.PING, ACK, 0, pings[0]) + wire.call(5))
    assert len(desk.calls) == 2
    last_ids = [int.from_bytes(payload[:4], "big") for kind, _, _, payload in wire.frames() if kind == Kind.GOAWAY]
    assert last_ids == [2**31 - 1, 3]
    desk.calls[0].reply(b"")
    wire.turn()
    assert not wire.transport.is_closing()
    desk.calls[1].reply(b"")
    wire.turn()
    assert wire.transport.is_closing()
    assert {stream: answer.status for stream, answer in wire.answers().items()} == {1: 0, 3: 0}


@pytest.mark.parametrize("late", [window_update(3, 100), reset(3, ErrorCode.CANCEL)], ids=["window", "reset"])
def test_frames_of_a_call_that_came_too_late_leave_the_others_alone(late: bytes) -> None:
    desk = Desk()
    wire = greeted(unary={PATH: desk})
    wire.say(wire.call(1))
    wire.connection.depart()
    wire.connection.last_call()
    wire.say(wire.call(3) + late)
    assert wire.goaway is ErrorCode.NO_ERROR
    desk.calls[0].reply(b"still")
    wire.turn()
    assert {stream: answer.message for stream, answer in wire.answers().items()} == {1: b"still"}


def test_a_client_that_says_goodbye_is_served_to_the_end() -> None:
    desk = Desk()
    wire = greeted(unary={PATH: desk})
    wire.say(wire.call(1) + goaway(0, ErrorCode.NO_ERROR))
    desk.calls[0].reply(b"still")
    wire.turn()
    assert wire.answers()[1].message == b"still"
