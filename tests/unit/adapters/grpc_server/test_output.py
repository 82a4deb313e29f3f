"""Answers wait for the client's windows; what moves these costs no more than what it lets go."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.adapters.grpc_server.frames import (
    END_STREAM,
    ErrorCode,
    Kind,
    frame,
    reset,
    window_update,
)
from flywheel.adapters.grpc_server.limits import Limits
from flywheel.adapters.grpc_server.messages import prefixed
from flywheel.adapters.grpc_server.output import Output
from flywheel.adapters.grpc_server.status import Status
from tests.grpc_wire import ended, greeted, window


def test_answers_wait_for_the_windows_of_the_client() -> None:
    wire = greeted()
    wire.say(window(10) + wire.call(1, b"x" * 100) + wire.call(3, b"y" * 3))
    assert wire.answers()[1].data == prefixed(b"x" * 100)[:10]
    assert wire.answers()[3].is_ended
    assert ended(wire) == [Status.OK, Status.OK]
    wire.say(window_update(1, 20))
    assert len(wire.answers()[1].data) == 30
    wire.say(window(200))
    assert (wire.answers()[1].message, wire.answers()[1].status) == (b"x" * 100, 0)
    assert not wire.connection.streams


def test_the_window_of_the_connection_holds_answers_too() -> None:
    wire = greeted()
    sent = 0
    for n in range(5):
        message = b"x" * 15_000
        wire.say(wire.headers(2 * n + 1) + frame(Kind.DATA, END_STREAM, 2 * n + 1, prefixed(message)))
        sent += len(prefixed(message))
    assert sum(len(answer.data) for answer in wire.answers().values()) == 65_535 < sent
    wire.say(window_update(0, 100_000))
    assert sum(len(answer.data) for answer in wire.answers().values()) == sent


def count_moves(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The answers that are looked at from now on."""
    moved: list[Any] = []
    advance = Output._advance

    def counted(output: Output, body: Any) -> None:
        moved.append(body)
        advance(output, body)

    monkeypatch.setattr(Output, "_advance", counted)
    return moved


@pytest.mark.parametrize("stream", [0, 1, 3999], ids=["connection", "oldest", "newest"])
def test_a_window_moves_only_what_waits_for_it(stream: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = greeted(limits=Limits(streams=2_000))
    wire.say(window(0) + b"".join(wire.call(2 * n + 1, bytes(200)) for n in range(2_000)))
    moved = count_moves(monkeypatch)
    wire.say(window_update(stream, 1) * 100)
    assert len(moved) <= 100
    assert sum(len(answer.data) for answer in wire.answers().values()) == (100 if stream else 0)


def test_a_window_of_the_connection_stops_where_it_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = greeted(limits=Limits(streams=2_000))
    wire.say(b"".join(wire.call(2 * n + 1, bytes(195)) for n in range(1_000)))
    before = sum(len(answer.data) for answer in wire.answers().values())
    moved = count_moves(monkeypatch)
    wire.say(window_update(0, 1) * 100)
    assert len(moved) <= 100
    assert sum(len(answer.data) for answer in wire.answers().values()) == before + 100


def test_settings_count_as_many_frames_as_they_move_answers() -> None:
    wire = greeted(limits=Limits(control_frames_per_s=1_000))
    wire.say(window(0) + b"".join(wire.call(2 * n + 1, bytes(200)) for n in range(100)))
    for size in (1, 0, 1):
        wire.say(window(size))
    assert wire.goaway is None
    for size in (0, 1) * 10:
        if not wire.transport.is_closing():
            wire.say(window(size))
    assert wire.goaway is ErrorCode.ENHANCE_YOUR_CALM


_WINDOWS = st.lists(
    st.one_of(
        st.tuples(st.just("settings"), st.integers(0, 300)),
        st.tuples(st.just("connection"), st.integers(1, 300)),
        st.tuples(st.integers(0, 4), st.integers(1, 300)),
        st.tuples(st.just("reset"), st.integers(0, 4)),
    ),
    max_size=30,
)


@given(st.integers(0, 50), st.lists(st.integers(0, 400), min_size=5, max_size=5), _WINDOWS)
def test_however_the_windows_move_all_that_they_allow_is_sent_and_counted(
    initial: int, sizes: list[int], steps: list[tuple[str | int, int]]
) -> None:
    wire = greeted()
    wire.connection.output.window_bytes = 500
    wire.say(window(initial) + b"".join(wire.call(2 * n + 1, bytes(size)) for n, size in enumerate(sizes)))
    whole, credit, gone = 500, [0] * 5, set[int]()
    for what, value in steps:
        if what == "settings":
            initial = value
            wire.say(window(value))
        elif what == "connection":
            whole += value
            wire.say(window_update(0, value))
        elif what == "reset":
            if 2 * value + 1 in wire.connection.streams:
                gone.add(value)
            wire.say(reset(2 * value + 1, ErrorCode.CANCEL))
        else:
            credit[cast(int, what)] += value
            wire.say(window_update(2 * cast(int, what) + 1, value))
    answers = wire.answers()
    sent = [len(answers[2 * n + 1].data) for n in range(5)]
    left = [size + 5 - done for size, done in zip(sizes, sent, strict=True)]
    waiting = [n for n in range(5) if left[n] and n not in gone]
    assert wire.goaway is None
    assert sum(sent) <= whole
    assert sum(sent) == whole or all(sent[n] >= initial + credit[n] for n in waiting)
    assert wire.connection.output.held_bytes == sum(left[n] for n in waiting)
    assert set(wire.connection.streams) == {2 * n + 1 for n in waiting}


def test_answers_that_wait_are_bounded_over_all_calls() -> None:
    wire = greeted(limits=Limits(held_bytes=1_000))
    wire.say(window(0) + b"".join(wire.call(n, bytes(600)) for n in (1, 3, 5)))
    assert {stream: answer.status for stream, answer in wire.answers().items()} == {1: None, 3: None, 5: 8}
    assert ended(wire) == [Status.OK, Status.OK, Status.RESOURCE_EXHAUSTED]
    wire.say(reset(1, ErrorCode.CANCEL) + window(2_000))
    wire.say(wire.call(7, bytes(600)))
    assert wire.answers()[7].status == 0
    assert wire.connection.output.held_bytes == 0
