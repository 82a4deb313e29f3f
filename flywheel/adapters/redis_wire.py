"""Commands and replies on one connection to Redis, for as long as it lasts.

Calls made in one turn of asyncio's loop leave in one write; those of uvloop's each at once. Replies come in order, so
each call is answered by the next replies that no earlier call is owed. A call that gives up leaves its replies owed,
and they are thrown away when they come: a late reply can never be taken for another call's.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import Any, cast

import hiredis

from flywheel.adapters.logs import logger
from flywheel.adapters.redis_commands import Commands
from flywheel.adapters.redis_tables import NotAlike, TableReader
from flywheel.kernel.ports import Unavailable

_log = logger(__name__)

_ALARM_RESOLUTION_S = 0.001


class RefusedCommand(Exception):
    """Redis answered a command with an error; it stands in the reply's place."""


class NodeAway(RefusedCommand):
    """The node of a cluster that would have answered a command is away; others have answered theirs."""


class _Call:
    """A call's place in the queue of those that are owed replies."""

    __slots__ = ("answer", "asked_at_s", "due_at_s", "replies", "table", "wanted")

    def __init__(
        self,
        answer: asyncio.Future[list[Any]],
        wanted: int,
        asked_at_s: float,
        due_at_s: float,
        table: TableReader | None,
    ) -> None:
        self.answer = answer
        self.wanted = wanted
        self.table = table
        self.asked_at_s = asked_at_s
        self.due_at_s = due_at_s
        self.replies: list[Any] = []


class Wire(asyncio.Protocol):
    """A connection; its transport gives it to the event loop.

    One from which nothing is heard for `silent_s` while replies are owed is ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, silent_s: float) -> None:
        self._loop = loop
        self._silent_s = silent_s
        self._reader = hiredis.Reader(replyError=RefusedCommand)
        self._calls: deque[_Call] = deque()
        self._unsent: list[bytes] = []
        self._heard_at_s = loop.time()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at_s = math.inf
        self._ended = loop.create_future()
        self._transport: asyncio.Transport
        # A write of uvloop's costs little, and Redis begins while the next call is still being made.
        self._gathers = not type(loop).__module__.startswith("uvloop")
        self.lost = False
        """Whether it has ended."""
        self.owed = 0
        """Replies that have not come yet."""

    def ask(self, commands: Commands, timeout_s: float) -> asyncio.Future[list[Any]]:
        """The replies to come, or Unavailable after the time and when the connection ends. Free to be cancelled.

        Of commands that are alike one StoredTable stands for all replies, if those are alike, too.
        """
        answer: asyncio.Future[list[Any]] = self._loop.create_future()
        if self.lost:
            answer.set_exception(Unavailable("the feature store closed the connection"))
        elif not commands.replies:
            answer.set_result([])
        else:
            now_s = self._loop.time()
            due_at_s = now_s + timeout_s
            table = TableReader(commands.replies) if commands.are_alike else None
            self._calls.append(_Call(answer, commands.replies, now_s, due_at_s, table))
            self.owed += commands.replies
            if due_at_s < self._alarm_at_s:
                self._set_alarm(due_at_s)
            self._write(commands.payload)
        return answer

    async def close(self) -> None:
        """Ends the connection; calls under way fail."""
        if not self.lost:
            self._transport.abort()
        await self._ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports are not asyncio's by class.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._heard_at_s = self._loop.time()
        try:
            if data := self._without_tables(data):
                self._read(data)
        except (hiredis.ProtocolError, IndexError):
            # What was answered to whom is unknown from here on.
            _log.error("feature_store_speaks_no_redis")
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        reason = f"the feature store closed the connection: {exc}" if exc else "the feature store closed the connection"
        for call in self._calls:
            if not call.answer.done():
                call.answer.set_exception(Unavailable(reason))
        self._calls.clear()
        self._unsent.clear()
        self.owed = 0
        if self._alarm is not None:
            self._alarm.cancel()
        self._ended.set_result(None)

    def _write(self, payload: bytes) -> None:
        if not self._gathers:
            self._transport.write(payload)
            return
        if not self._unsent:
            self._loop.call_soon(self._write_unsent)
        self._unsent.append(payload)

    def _write_unsent(self) -> None:
        payload, self._unsent = b"".join(self._unsent), []
        if not self.lost:
            self._transport.write(payload)

    def _without_tables(self, data: bytes) -> bytes:
        """What is left of the data when the tables at its beginning have been taken."""
        while data and self._calls and not self._reader.has_data():
            call = self._calls[0]
            if call.table is None or call.replies:
                break
            try:
                table = call.table.feed(data)
            except NotAlike:
                data, call.table = call.table.data, None
                break
            if table is None:
                return b""
            data = call.table.data
            self.owed -= call.wanted
            self._answered(call, [table])
        return data

    def _read(self, data: bytes) -> None:
        self._reader.feed(data)
        next_reply = self._reader.gets
        calls = self._calls
        while (reply := next_reply()) is not False:
            call = calls[0]
            call.replies.append(reply)
            self.owed -= 1
            if len(call.replies) == call.wanted:
                self._answered(call, call.replies)

    def _answered(self, call: _Call, replies: list[Any]) -> None:
        """The first of the calls has all its replies."""
        self._calls.popleft()
        if not call.answer.done():
            call.answer.set_result(replies)

    def _set_alarm(self, at_s: float) -> None:
        # One alarm for all calls: most are answered long before they are due, and need none of their own.
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at_s = at_s
        self._alarm = self._loop.call_at(at_s, self._ring)

    def _ring(self) -> None:
        self._alarm, self._alarm_at_s = None, math.inf
        now_s = self._loop.time()
        for call in self._calls:
            if not call.answer.done() and call.due_at_s <= now_s:
                call.answer.set_exception(late(call.due_at_s - call.asked_at_s))
        if self._calls and now_s - max(self._heard_at_s, self._calls[0].asked_at_s) >= self._silent_s:
            _log.warning("feature_store_silent", for_s=self._silent_s)
            self._transport.abort()
        elif waiting := [call.due_at_s for call in self._calls if not call.answer.done()]:
            self._set_alarm(max(min(waiting), now_s + _ALARM_RESOLUTION_S))


def late(timeout_s: float) -> Unavailable:
    """What a call raises that was not answered in time."""
    return Unavailable(f"the feature store did not answer within {timeout_s:.4g} s")
