"""Deadlines and silence on a connection, by a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from flywheel.adapters.redis_commands import pack
from flywheel.adapters.redis_wire import Wire
from flywheel.kernel.ports import Unavailable
from flywheel.kernel.stored_table import StoredTable

SILENT_S = 1.0
PING = pack(("PING",))


class Clock:
    """An event loop as far as a wire needs one: alarms ring as the time is moved on."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.alarms: list[Alarm] = []

    def time(self) -> float:
        return self.now_s

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    def call_soon(self, call: Callable[[], None]) -> None:
        """What is written is of no interest here."""

    def call_at(self, at_s: float, call: Callable[[], None]) -> Alarm:
        self.alarms.append(Alarm(self, at_s, call))
        return self.alarms[-1]

    def move(self, by_s: float) -> None:
        until_s = self.now_s + by_s
        while due := [alarm for alarm in self.alarms if alarm.at_s <= until_s]:
            alarm = min(due, key=lambda alarm: alarm.at_s)
            self.alarms.remove(alarm)
            self.now_s = max(self.now_s, alarm.at_s)
            alarm.call()
        self.now_s = until_s


class Alarm:
    def __init__(self, clock: Clock, at_s: float, call: Callable[[], None]) -> None:
        self._clock = clock
        self.at_s = at_s
        self.call = call

    def cancel(self) -> None:
        self._clock.alarms.remove(self)


class Transport:
    """Ends when it is told to, as a real one does a moment later."""

    def __init__(self) -> None:
        self.wire: Wire | None = None
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True
        if self.wire is not None and not self.wire.lost:
            self.wire.connection_lost(None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
async def wire(clock: Clock, transport: Transport) -> Wire:
    wire = Wire(cast(asyncio.AbstractEventLoop, clock), SILENT_S)
    transport.wire = wire
    wire.connection_made(cast(asyncio.BaseTransport, transport))
    return wire


def failed(answer: asyncio.Future[list[Any]]) -> bool:
    return answer.done() and isinstance(answer.exception(), Unavailable)


async def test_each_call_is_given_up_at_its_own_time(clock: Clock, wire: Wire) -> None:
    long, short, middle = wire.ask(PING, 0.5), wire.ask(PING, 0.1), wire.ask(PING, 0.3)
    clock.move(0.099)
    assert not short.done()
    clock.move(0.002)
    assert (failed(short), middle.done(), long.done()) == (True, False, False)
    clock.move(0.2)
    assert (failed(middle), long.done()) == (True, False)
    clock.move(0.2)
    assert failed(long)
    assert clock.alarms == []


async def test_an_answer_in_time_is_an_answer_whoever_gave_up(clock: Clock, wire: Wire) -> None:
    early, later = wire.ask(PING, 0.1), wire.ask(PING, 0.5)
    clock.move(0.2)
    wire.data_received(b"+1\r\n+2\r\n")
    assert failed(early)
    assert later.result() == [b"2"]
    assert wire.owed == 0


async def test_calls_in_time_cost_one_alarm(clock: Clock, wire: Wire) -> None:
    for _ in range(100):
        answer = wire.ask(PING, 0.1)
        wire.data_received(b"+PONG\r\n")
        assert answer.result() == [b"PONG"]
    assert len(clock.alarms) == 1
    clock.move(0.2)
    assert clock.alarms == []


async def test_a_wire_in_silence_ends_and_fails_its_calls(clock: Clock, wire: Wire, transport: Transport) -> None:
    calls = []
    while not transport.aborted:
        calls.append(wire.ask(PING, 0.1))
        clock.move(0.1)
        assert clock.now_s < 100 + 2 * SILENT_S
    assert clock.now_s >= 100 + SILENT_S
    assert all(map(failed, calls))
    assert failed(wire.ask(PING, 0.1))


async def test_a_wire_that_is_always_late_and_talks_is_kept(clock: Clock, wire: Wire, transport: Transport) -> None:
    for _ in range(50):
        answer = wire.ask(PING, 0.1)
        clock.move(0.15)
        assert failed(answer)
        wire.data_received(b"+PONG\r\n")
    assert not transport.aborted


async def test_a_wire_that_had_nothing_to_say_for_long_is_kept(clock: Clock, wire: Wire, transport: Transport) -> None:
    clock.move(100 * SILENT_S)
    answer = wire.ask(PING, 0.1)
    clock.move(0.2)
    assert failed(answer)
    assert not transport.aborted


async def test_a_wire_far_behind_that_talks_is_kept(clock: Clock, wire: Wire, transport: Transport) -> None:
    calls = [wire.ask(PING, 0.1) for _ in range(20)]
    calls_behind = []
    for _ in calls:
        clock.move(SILENT_S / 2)
        wire.data_received(b"+PONG\r\n")
        calls_behind.append(wire.ask(PING, 0.1))
    clock.move(SILENT_S / 2)
    assert all(map(failed, [*calls, *calls_behind]))
    assert not transport.aborted


ALIKE = pack(("HMGET", "a", "f"), ("HMGET", "b", "f"))._replace(are_alike=True)
ROWS = [[b"one"], [b"two"]]
REPLIES = b"*1\r\n$3\r\none\r\n*1\r\n$3\r\ntwo\r\n"


@pytest.mark.parametrize("cut", range(len(REPLIES)))
async def test_tables_and_other_replies_each_go_to_whom_they_are_owed(wire: Wire, cut: int) -> None:
    calls = [wire.ask(commands, 0.1) for commands in (ALIKE, ALIKE, PING, ALIKE, PING)]
    come = REPLIES + REPLIES + b"+1\r\n" + REPLIES + b"+2\r\n"
    for part in (come[:cut], come[cut : -cut or None], come[len(come) - cut :] if cut else b""):
        wire.data_received(part)
    found = [call.result() for call in calls]
    assert [rows_of(each) for each in found] == [ROWS, ROWS, [b"1"], ROWS, [b"2"]]
    assert isinstance(found[1][0], StoredTable)
    assert wire.owed == 0


ROW = b"*1\r\n$3\r\none\r\n"
LIKE_ROWS = b"*1\r\n$%d\r\n%b\r\n" % (4 * len(ROW), 4 * ROW)
"""A value that looks like replies itself."""


@pytest.mark.parametrize("cut", range(len(4 * ROW + 2 * LIKE_ROWS)))
async def test_a_table_that_came_behind_another_reply_is_read_to_its_end(wire: Wire, cut: int) -> None:
    calls = [wire.ask(commands, 0.1) for commands in (PING, ALIKE, ALIKE, ALIKE)]
    come = b"+1\r\n" + 4 * ROW + 2 * LIKE_ROWS
    for part in (come[:cut], come[cut:]):
        wire.data_received(part)
    found = [rows_of(call.result()) for call in calls]
    assert found == [[b"1"], [[b"one"]] * 2, [[b"one"]] * 2, [[4 * ROW]] * 2]


@pytest.mark.parametrize("cut", range(30))
async def test_what_is_no_table_after_all_is_answered_reply_by_reply(wire: Wire, cut: int) -> None:
    other, alike = wire.ask(ALIKE, 0.1), wire.ask(ALIKE, 0.1)
    come = b"*1\r\n$3\r\none\r\n*1\r\n$-1\r\n" + REPLIES
    for part in (come[:cut], come[cut:]):
        wire.data_received(part)
    assert other.result() == [[b"one"], [None]]
    assert rows_of(alike.result()) == ROWS
    assert wire.owed == 0


async def test_a_table_nobody_waits_for_any_more_is_thrown_away(clock: Clock, wire: Wire) -> None:
    late, later = wire.ask(ALIKE, 0.1), wire.ask(PING, 0.5)
    wire.data_received(REPLIES[:20])
    clock.move(0.2)
    wire.data_received(REPLIES[20:] + b"+1\r\n")
    assert failed(late)
    assert later.result() == [b"1"]


def rows_of(found: list[Any]) -> list[Any]:
    return found[0].rows() if isinstance(found[0], StoredTable) else found
