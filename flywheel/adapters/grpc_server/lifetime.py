"""A connection's life: the greeting, the reads, the limits of time, and the ways in which it ends."""

from __future__ import annotations

import asyncio
import random
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from time import perf_counter
from typing import Any, cast

from flywheel.adapters.grpc_server.control import DRAIN_PING
from flywheel.adapters.grpc_server.frames import (
    LARGEST_STREAM_ID,
    PREFACE,
    WINDOW_BYTES,
    ConnectionFault,
    ErrorCode,
    Kind,
    Setting,
    frame,
    goaway,
    settings,
    window_update,
)
from flywheel.adapters.grpc_server.limits import Limits
from flywheel.adapters.grpc_server.messages import PREFIX_BYTES
from flywheel.adapters.grpc_server.output import Output
from flywheel.adapters.grpc_server.streams import Stream
from flywheel.adapters.logs import logger

_CONNECTION_WINDOW_BYTES = 32 * 1024 * 1024
# More than a turn's answers; a client that leaves as much unread is not read from any more.
_UNWRITTEN_BYTES = 512 * 1024
_AGE_VARIES = 0.1
_log = logger(__name__)


class Lifetime(asyncio.Protocol, ABC):
    """What a connection is besides its frames. A subclass parses them."""

    def __init__(self, limits: Limits, output: Output, on_lost: Callable[[Any], None]) -> None:
        self.limits = limits
        self.output = output
        self.streams: dict[int, Stream] = {}
        self.last_id = 0
        """The newest stream that the client opened."""
        self.last_call_id = LARGEST_STREAM_ID
        """Streams above it are not taken any more."""
        self.read_s = perf_counter()
        self.stream_window_bytes = max(WINDOW_BYTES, limits.longest_message_bytes + PREFIX_BYTES)
        self.window_share_bytes = _CONNECTION_WINDOW_BYTES // 2
        self.is_leaving = False
        self.is_greeted = False
        """The client's own settings have come."""
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._unfinished = b""
        self._has_preface = False
        self._made_s = self.read_s
        # Clients that came together must not all come again together.
        self._age_s = limits.age_s * random.uniform(1 - _AGE_VARIES, 1 + _AGE_VARIES)
        self._is_over = False
        self.writable = asyncio.Event()
        """Clear while the client leaves too much unread."""
        self.writable.set()
        self._paused_s: float | None = None
        self._over_s = 0.0
        self._asked_s = 0.0
        self._released = (0, self.read_s)

    @abstractmethod
    def parse(self, data: bytes) -> bytes:
        """Acts on all whole frames and returns the rest."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets the client."""
        self._transport = self.output.transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_UNWRITTEN_BYTES)
        _keep_alive(transport.get_extra_info("socket"))
        self.read_s = self._made_s = perf_counter()
        announced = {
            Setting.MAX_CONCURRENT_STREAMS: self.limits.streams,
            Setting.INITIAL_WINDOW_SIZE: self.stream_window_bytes,
            Setting.MAX_HEADER_LIST_SIZE: self.limits.header_list_bytes,
        }
        self.output.put(settings(announced) + window_update(0, _CONNECTION_WINDOW_BYTES - WINDOW_BYTES))

    def data_received(self, data: bytes) -> None:
        """Acts on what the client sent."""
        if self._is_over:
            return
        self.read_s = perf_counter()
        if self._unfinished:
            data = self._unfinished + data
        try:
            self._unfinished = self.parse(data) if self._has_preface else self._greeted(data)
        except ConnectionFault as fault:
            self._abandon(fault.code, str(fault))
        except Exception as error:
            _log.error("connection_failed", exc_info=error)
            self._abandon(ErrorCode.INTERNAL_ERROR, "an internal error")

    def connection_lost(self, _: Exception | None) -> None:
        """Tells all handlers that their caller has gone."""
        self._is_over = True
        self._cancel_all()
        self._on_lost(self)

    def eof_received(self) -> bool:
        """The client sends no more; what it cannot ask for again is not answered either."""
        return False

    def pause_writing(self) -> None:
        """The client does not read: nothing more is read from it either."""
        self._paused_s = perf_counter()
        self.writable.clear()
        cast(asyncio.Transport, self._transport).pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._paused_s = None
        self.writable.set()
        cast(asyncio.Transport, self._transport).resume_reading()

    def depart(self) -> None:
        """Asks the client to take new calls elsewhere; those it sent before it knows are served."""
        if not self.is_leaving and not self._is_over:
            self.is_leaving = True
            self._asked_s = perf_counter()
            self.output.put(goaway(LARGEST_STREAM_ID, ErrorCode.NO_ERROR) + frame(Kind.PING, 0, 0, DRAIN_PING))

    def last_call(self) -> None:
        """The client knows: from now on nothing new is taken."""
        if self.is_leaving and self.last_call_id == LARGEST_STREAM_ID:
            self.last_call_id = self.last_id
            self.output.put(goaway(self.last_id, ErrorCode.NO_ERROR))
            self.finish_if_done()

    def finish_if_done(self) -> None:
        """Closes a connection that has been told to go and has no calls left."""
        if self.streams or self._is_over or self.last_call_id == LARGEST_STREAM_ID:
            return
        transport = self._over()
        # A close with unread bytes would reset the connection, and the last answers with it.
        try:
            if transport.can_write_eof() and not transport.is_closing():
                transport.write_eof()
                return
        except OSError:
            # The other side has gone already.
            pass
        transport.close()

    def abort(self) -> None:
        """Closes at once."""
        self._is_over = True
        cast(asyncio.Transport, self._transport).abort()

    def check(self, now_s: float) -> None:
        """Ends what takes too long."""
        if self._is_over:
            if now_s - self._over_s > self.limits.linger_s:
                self.abort()
            return
        for stream in list(self.streams.values()):
            stream.check(now_s)
        if self.is_leaving and now_s - self._asked_s > self.limits.linger_s:
            # It did not say that it knows; what it sent by now is served all the same.
            self.last_call()
        if now_s - self._made_s > self._age_s:
            self.depart()
        if self._is_stalled(now_s):
            self.abort()
        elif not self.streams and now_s - self.read_s > self.limits.idle_s:
            self.depart()
            self.last_call()

    def _is_stalled(self, now_s: float) -> bool:
        limits = self.limits
        if not self.is_greeted:
            return now_s - self._made_s > limits.handshake_s
        if self._paused_s is not None:
            return now_s - self._paused_s > limits.stalled_s
        released_bytes, since_s = self._released
        enough = released_bytes + limits.released_bytes_per_s * limits.stalled_s
        if not self.output.held or self.output.released_bytes >= enough:
            self._released = (self.output.released_bytes, now_s)
            return False
        return now_s - since_s > limits.stalled_s

    def _greeted(self, data: bytes) -> bytes:
        if len(data) < len(PREFACE):
            if not PREFACE.startswith(data):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2")
            return data
        if not data.startswith(PREFACE):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2")
        self._has_preface = True
        return self.parse(data[len(PREFACE) :])

    def _abandon(self, code: ErrorCode, reason: str) -> None:
        self.output.put(goaway(self.last_id, code, reason))
        self._over().close()
        self._cancel_all()

    def _over(self) -> asyncio.Transport:
        """The transport; nothing is written to it any more."""
        self.output.flush()
        self.output.transport = None
        self._is_over = True
        self._over_s = perf_counter()
        return cast(asyncio.Transport, self._transport)

    def _cancel_all(self) -> None:
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.forget()
            try:
                stream.cancel()
            except Exception as error:
                # Somebody else's callback; the others must hear all the same.
                _log.error("call_not_ended", exc_info=error)


def _keep_alive(connected: socket.socket | None) -> None:
    if connected is not None and connected.family in (socket.AF_INET, socket.AF_INET6):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
