"""One connection of the load generator to a gRPC server: unary calls, as cheap as Python does them.

It behaves as gRPC clients do: header blocks refer to the table of earlier ones, windows and the allowed number of calls
are respected (what exceeds them waits its turn here), pings are answered, and after GOAWAY nothing new is sent.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from loadtests.generator.http2_blocks import Headers, RequestBlocks, ResponseBlocks

_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_ACK = _END_STREAM = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
_CODE_REFUSED = 7
_WINDOW_START = 65_535
_WINDOW_MOST = 2**31 - 1
_HEAD = struct.Struct(">IBI")
_FRONT = struct.Struct(">IB")
_SETTING = struct.Struct(">HI")

UNAVAILABLE = 14


class Message(bytes):
    """One request as the body of a DATA frame."""

    def __new__(cls, content: bytes) -> Message:
        return super().__new__(cls, b"\0" + len(content).to_bytes(4, "big") + content)


class Owner(Protocol):
    """Whoever is told what comes of the calls on a connection."""

    def answered(self, number: int, status: int, message: bytes, now_s: float) -> None:
        """A call ended with that gRPC status; the message is empty unless it is 0."""

    def returned(self, numbers: Iterable[int]) -> None:
        """The server has not begun these calls and will not on this connection."""

    def heard(self) -> None:
        """All that one read brought has been told."""

    def gone(self, connection: GrpcConnection) -> None:
        """Nothing can be sent on it any more."""


class GrpcConnection(asyncio.Protocol):
    """A connection; `send` takes numbers of requests, whose messages `message_of` knows."""

    def __init__(self, owner: Owner, headers: Headers, message_of: Callable[[int], Message]) -> None:
        self._owner = owner
        self._blocks = RequestBlocks(headers)
        self._responses = ResponseBlocks()
        self._message_of = message_of
        front = _FRONT.pack(len(self._blocks.again) << 8 | _HEADERS, _END_HEADERS)
        self._front = front
        self._middles: dict[int, bytes] = {}
        self._began = False
        self._next_stream = 1
        self._calls: dict[int, int] = {}
        self._bodies: dict[int, bytes] = {}
        self._waiting: deque[int] = deque()
        self._window = _WINDOW_START
        self._most_calls = _WINDOW_MOST
        self._consumed = 0
        self._rest = b""
        self._block = b""
        self._block_flags = 0
        self._transport: asyncio.Transport | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.usable = False

    @property
    def under_way(self) -> int:
        """Calls that were sent and not answered."""
        return len(self._calls)

    async def ready(self) -> None:
        """Returns when the server has said what it allows."""
        await self._ready

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        settings = _SETTING.pack(2, 0) + _SETTING.pack(4, _WINDOW_MOST)
        greeting = _frame(_SETTINGS, 0, 0, settings)
        window = _frame(_WINDOW, 0, 0, (_WINDOW_MOST - _WINDOW_START).to_bytes(4, "big"))
        self._write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + greeting + window)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._leave()
        now_s = time.perf_counter()
        lost, self._calls = self._calls, {}
        for number in lost.values():
            self._owner.answered(number, UNAVAILABLE, b"", now_s)
        self._owner.heard()
        if not self._ready.done():
            self._ready.set_exception(ConnectionError("the server hung up"))

    def close(self) -> None:
        """Hangs up."""
        if self._transport is not None:
            self._transport.close()

    def send(self, numbers: Iterable[int]) -> None:
        """Sends these requests in one write; those beyond what the server allows follow when it does."""
        out: list[bytes] = []
        if self._waiting:
            self._waiting.extend(numbers)
            self._drain(out)
        else:
            for number in numbers:
                if not self._put(number, out):
                    self._waiting.append(number)
        if out:
            self._write(b"".join(out))

    def _put(self, number: int, out: list[bytes]) -> bool:
        message = self._message_of(number)
        if len(self._calls) >= self._most_calls or self._window < len(message):
            return False
        self._window -= len(message)
        number_of_stream = self._next_stream
        self._next_stream = number_of_stream + 2
        self._calls[number_of_stream] = number
        stream = number_of_stream.to_bytes(4, "big")
        if self._began:
            middle = self._middles.get(len(message)) or self._middle(len(message))
            out += (self._front, stream, middle, stream, message)
            return True
        self._began = True
        out.append(_frame(_HEADERS, _END_HEADERS, number_of_stream, self._blocks.first))
        out.append(_frame(_DATA, _END_STREAM, number_of_stream, message))
        return True

    def _middle(self, length: int) -> bytes:
        made = self._middles[length] = self._blocks.again + _FRONT.pack(length << 8 | _DATA, _END_STREAM)
        return made

    def _drain(self, out: list[bytes]) -> None:
        while self._waiting and self._put(self._waiting[0], out):
            self._waiting.popleft()

    def data_received(self, data: bytes) -> None:
        now_s = time.perf_counter()
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        unpack, calls, bodies = _HEAD.unpack_from, self._calls, self._bodies
        while end - at >= 9:
            head, flags, stream = unpack(data, at)
            start, at = at + 9, at + 9 + (head >> 8)
            if at > end:
                at = start - 9
                break
            kind = head & 0xFF
            if kind == _DATA and not flags & _PADDED:
                self._consumed += at - start
                if stream in bodies:
                    bodies[stream] += data[start:at]
                else:
                    bodies[stream] = data[start:at]
            elif kind == _HEADERS and flags & (_END_HEADERS | _PADDED | _PRIORITY) == _END_HEADERS:
                fields = self._responses.read(data[start:at])
                if flags & _END_STREAM and stream in calls:
                    self._end(stream, int(fields.get("grpc-status", 2)), now_s)
            else:
                self._rare(kind, flags, stream, data[start:at], now_s)
        self._rest = data[at:]
        self._keep_up()
        self._owner.heard()

    def _end(self, stream: int, status: int, now_s: float) -> None:
        body = self._bodies.pop(stream, b"")
        self._owner.answered(self._calls.pop(stream), status, body[5:], now_s)

    def _rare(self, kind: int, flags: int, stream: int, payload: bytes, now_s: float) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            self._settle(payload)
        elif kind == _PING and not flags & _ACK:
            self._write(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW and not stream:
            self._window += int.from_bytes(payload, "big") & _WINDOW_MOST
        elif kind == _RST and stream in self._calls:
            self._bodies.pop(stream, None)
            number, code = self._calls.pop(stream), int.from_bytes(payload, "big")
            if code == _CODE_REFUSED:
                self._owner.returned([number])
            else:
                self._owner.answered(number, UNAVAILABLE, b"", now_s)
        elif kind == _GOAWAY:
            self._go_away(int.from_bytes(payload[:4], "big") & _WINDOW_MOST)
        elif kind in (_HEADERS, _CONTINUATION):
            self._fragment(kind, flags, stream, payload, now_s)
        elif kind == _DATA:
            self._consumed += len(payload)
            self._bodies[stream] = self._bodies.get(stream, b"") + payload[1 : len(payload) - payload[0]]

    def _fragment(self, kind: int, flags: int, stream: int, payload: bytes, now_s: float) -> None:
        if kind == _HEADERS:
            self._block, self._block_flags = b"", flags
            if flags & _PADDED:
                payload = payload[1 : len(payload) - payload[0]]
            if flags & _PRIORITY:
                payload = payload[5:]
        self._block += payload
        if flags & _END_HEADERS:
            fields = self._responses.read(self._block)
            if self._block_flags & _END_STREAM and stream in self._calls:
                self._end(stream, int(fields.get("grpc-status", 2)), now_s)

    def _settle(self, payload: bytes) -> None:
        for name, value in _SETTING.iter_unpack(payload):
            if name == 3:
                self._most_calls = value
        self._write(_frame(_SETTINGS, _ACK, 0, b""))
        if not self._ready.done():
            self.usable = True
            self._ready.set_result(None)

    def _go_away(self, last: int) -> None:
        unseen = [stream for stream in self._calls if stream > last]
        self._leave()
        self._owner.returned([self._calls.pop(stream) for stream in unseen])
        if not self._calls:
            self.close()

    def _leave(self) -> None:
        if self.usable:
            self.usable = False
            waiting, self._waiting = self._waiting, deque()
            self._owner.gone(self)
            self._owner.returned(waiting)

    def _keep_up(self) -> None:
        if self._consumed > _WINDOW_MOST // 2:
            self._write(_frame(_WINDOW, 0, 0, self._consumed.to_bytes(4, "big")))
            self._consumed = 0
        if self._waiting and self.usable:
            out: list[bytes] = []
            self._drain(out)
            if out:
                self._write(b"".join(out))
        if not self.usable and self._ready.done() and not self._calls:
            self.close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


async def connect(
    make: Callable[[], GrpcConnection], host: str, port: int, tls: ssl.SSLContext | None
) -> GrpcConnection:
    """A connection on which calls can be sent. Raises OSError."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(make, host, port, ssl=tls)
    await connection.ready()
    return connection
