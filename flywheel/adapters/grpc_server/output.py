"""What goes back to one client: gathered, written once a turn of the loop, held where the client's windows say so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from struct import Struct
from typing import Protocol

from flywheel.adapters.grpc_server.blocks import INITIAL, OK_TRAILERS
from flywheel.adapters.grpc_server.frames import (
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    WINDOW_BYTES,
    Kind,
    frame,
    headers,
)
from flywheel.adapters.grpc_server.messages import PREFIX_BYTES, prefixed

# An answer is three frames; all but its stream, its length and its message are the same bytes each time.
_BEGIN = Struct(f">5sI{len(INITIAL)}sHBHIBI")
_BEGIN_HEAD = len(INITIAL).to_bytes(3, "big") + bytes([Kind.HEADERS, END_HEADERS])
_END = Struct(f">5sI{len(OK_TRAILERS)}s")
_END_HEAD = len(OK_TRAILERS).to_bytes(3, "big") + bytes([Kind.HEADERS, END_HEADERS | END_STREAM])
_begin, _end = _BEGIN.pack, _END.pack


class Outgoing(Protocol):
    """A stream that sends."""

    stream_id: int
    credit_bytes: int
    """Its send window, less the window that all streams begin with."""

    def sent(self) -> None:
        """What had to wait has gone."""


class Output:
    """The writing side of a connection. `schedule` must bring about `flush` before the loop waits again."""

    def __init__(self, schedule: Callable[[Output], None]) -> None:
        self.window_bytes = WINDOW_BYTES
        self.initial_bytes = WINDOW_BYTES
        self.transport: asyncio.Transport | None = None
        self.held_bytes = 0
        """Of messages that wait for the client's windows."""
        self.released_bytes = 0
        """Of messages that had to wait, and have gone."""
        self._schedule = schedule
        self._parts: list[bytes] = []
        self._held: dict[int, _Body] = {}
        self._ready: dict[int, _Body] = {}
        """Those of the held that wait for the connection's window alone."""

    @property
    def held(self) -> int:
        """How many messages wait for the client's windows."""
        return len(self._held)

    def put(self, data: bytes) -> None:
        """Sends bytes that no window governs."""
        if not self._parts:
            self._schedule(self)
        self._parts.append(data)

    def flush(self) -> None:
        """Writes what was put since the last time."""
        parts, self._parts = self._parts, []
        if self.transport is not None and parts and not self.transport.is_closing():
            self.transport.write(b"".join(parts))

    def answer(self, stream: Outgoing, message: bytes) -> bool:
        """Sends a whole unary answer. False when a part of it waits; `stream.sent` tells when it has gone."""
        size = len(message) + PREFIX_BYTES
        stream_id = stream.stream_id
        if size > self.window_bytes or size > self.initial_bytes + stream.credit_bytes or size > FRAME_BYTES:
            self.put(headers(stream_id, INITIAL, 0))
            return self.send(stream, prefixed(message), headers(stream_id, OK_TRAILERS, END_STREAM))
        self.window_bytes -= size
        parts = self._parts
        if not parts:
            self._schedule(self)
        begin = _begin(_BEGIN_HEAD, stream_id, INITIAL, size >> 8, size & 0xFF, 0, stream_id, 0, size - PREFIX_BYTES)
        parts += (begin, message, _end(_END_HEAD, stream_id, OK_TRAILERS))
        return True

    def send(self, stream: Outgoing, data: bytes, last: bytes) -> bool:
        """Sends bytes of a stream in DATA frames, then the frame `last`. False when a part of it waits."""
        body = _Body(stream, data, last)
        self._advance(body)
        if body.is_sent:
            return True
        self._held[stream.stream_id] = body
        self.held_bytes += len(data) - body.at
        self._sort(body)
        return False

    def drop(self, stream_id: int) -> None:
        """Forgets what waits of a stream."""
        self._ready.pop(stream_id, None)
        body = self._held.pop(stream_id, None)
        if body is not None:
            self.held_bytes -= len(body.data) - body.at

    def resume(self) -> None:
        """Sends what waited, as far as the connection's window now allows."""
        while self._ready and self.window_bytes > 0:
            self._go_on(next(iter(self._ready.values())))

    def resume_stream(self, stream_id: int) -> None:
        """Sends what waited of one stream, whose window is another now."""
        body = self._held.get(stream_id)
        if body is not None:
            self._go_on(body)

    def resume_all(self) -> None:
        """Sends what waited, all streams' windows being others now."""
        for body in list(self._held.values()):
            self._go_on(body)

    def _go_on(self, body: _Body) -> None:
        begin = body.at
        self._advance(body)
        self.held_bytes -= body.at - begin
        self.released_bytes += body.at - begin
        if not body.is_sent:
            self._sort(body)
            return
        stream_id = body.stream.stream_id
        self._ready.pop(stream_id, None)
        del self._held[stream_id]
        body.stream.sent()

    def _sort(self, body: _Body) -> None:
        stream = body.stream
        if self.initial_bytes + stream.credit_bytes > 0:
            self._ready[stream.stream_id] = body
        else:
            self._ready.pop(stream.stream_id, None)

    def _advance(self, body: _Body) -> None:
        stream = body.stream
        while body.at < len(body.data):
            room = min(FRAME_BYTES, self.window_bytes, self.initial_bytes + stream.credit_bytes)
            if room <= 0:
                return
            piece = body.data[body.at : body.at + room]
            body.at += len(piece)
            self.window_bytes -= len(piece)
            stream.credit_bytes -= len(piece)
            self.put(frame(Kind.DATA, 0, stream.stream_id, piece))
        if body.last:
            self.put(body.last)
        body.is_sent = True


class _Body:
    """Bytes of a stream, some of them sent."""

    __slots__ = ("at", "data", "is_sent", "last", "stream")

    def __init__(self, stream: Outgoing, data: bytes, last: bytes) -> None:
        self.stream = stream
        self.data = data
        self.last = last
        self.at = 0
        self.is_sent = False
