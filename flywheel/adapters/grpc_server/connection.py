"""One client: frames in, calls out. Whatever it sends, nothing is raised into the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from flywheel.adapters.grpc_server.answered_early import AnsweredEarly
from flywheel.adapters.grpc_server.calls import PortGate, Streaming
from flywheel.adapters.grpc_server.control import Control, depends_on
from flywheel.adapters.grpc_server.frames import (
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    HEAD,
    HEAD_BYTES,
    PADDED,
    PRIORITIZED,
    ConnectionFault,
    ErrorCode,
    Kind,
    StreamFault,
    headers,
    reset,
    window_update,
)
from flywheel.adapters.grpc_server.header_blocks import HeaderBlocks
from flywheel.adapters.grpc_server.heads import Head
from flywheel.adapters.grpc_server.lifetime import Lifetime
from flywheel.adapters.grpc_server.limits import Limits
from flywheel.adapters.grpc_server.output import Output
from flywheel.adapters.grpc_server.repeats import repeats
from flywheel.adapters.grpc_server.status import Refusal, Status
from flywheel.adapters.grpc_server.streaming import StreamedCall
from flywheel.adapters.grpc_server.streams import Notice, Stream
from flywheel.adapters.grpc_server.turns import Turn
from flywheel.adapters.grpc_server.unary import UnaryCall

_UNKNOWN = Refusal(Status.UNIMPLEMENTED, "there is no such method here")
_TOO_MANY_STREAMING = Refusal(Status.RESOURCE_EXHAUSTED, "too many streaming calls on one connection")
_BLOCK_SHARE = 4
_PRIORITY_BYTES = 5
_STREAM_BITS = 0x7FFFFFFF
_unpack = HEAD.unpack_from
_DATA, _HEADERS = int(Kind.DATA), int(Kind.HEADERS)


@dataclass
class Shared:
    """What all connections of a port have in common."""

    gate: PortGate
    limits: Limits
    turn: Turn
    streaming: Mapping[str, Streaming]
    connections: set[Connection] = field(default_factory=set)
    on_closed: Callable[[], object] = lambda: None

    def lost(self, connection: Connection) -> None:
        """The connection has gone."""
        self.connections.discard(connection)
        self.on_closed()


class _Refused(NamedTuple):
    """A call that was refused: its header block, what that says, and what it was told."""

    block: bytes
    head: Head
    refusal: Refusal


class Connection(Lifetime):
    """The frames of one client, parsed; its calls in flight."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared.limits, Output(shared.turn.written), shared.lost)
        self.gate = shared.gate
        self.turn = shared.turn
        self.kept_bytes = 0
        """Of messages that are unfinished or wait to be asked for."""
        self.streamed: set[int] = set()
        """Streaming calls in flight."""
        self.unfinished = 0
        """Unary calls whose message has not come whole."""
        self._shared = shared
        self._blocks = HeaderBlocks(shared.limits.header_list_bytes)
        self._control = Control(self)
        self._early = AnsweredEarly()
        self._refused: _Refused | None = None
        """The last thing that came in this read, if it was the head of a call whose refusal stands."""
        self._uncredited_bytes = 0
        self._fragments: tuple[int, int, bytearray] | None = None
        self._fragments_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets the client."""
        super().connection_made(transport)
        self._shared.connections.add(self)

    def put_last(self, stream_id: int, block: bytes) -> None:
        """Ends a stream with that header block."""
        self.output.put(headers(stream_id, block, END_STREAM))

    def release(self, stream: Stream) -> None:
        """The stream's answer has gone."""
        stream_id = stream.stream_id
        if self.streams.pop(stream_id, None) is None:
            return
        self._control.called()
        stream.forget()
        if not stream.is_ended:
            self._early.add(stream_id)
            self.output.put(reset(stream_id, ErrorCode.NO_ERROR))
        if self.is_leaving:
            self.finish_if_done()

    def leave(self, stream_id: int) -> None:
        """The client takes no more interest in the stream."""
        self._early.discard(stream_id)
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            self.output.drop(stream_id)
            stream.forget()
            stream.cancel()
            if self.is_leaving:
                self.finish_if_done()

    def check(self, now_s: float) -> None:
        """Ends what takes too long, header blocks included."""
        if self._fragments is not None and now_s - self._fragments_s > self.limits.request_s:
            self.abort()
        else:
            super().check(now_s)

    def parse(self, data: bytes) -> bytes:
        """Acts on all whole frames; what is left begins an unfinished one. Raises ConnectionFault."""
        at, end = 0, len(data)
        while end - at >= HEAD_BYTES:
            high, low, kind, flags, stream_id = _unpack(data, at)
            size = high << 8 | low
            begin = at + HEAD_BYTES
            at = begin + size
            if size > FRAME_BYTES:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame is longer than announced")
            if at > end:
                at = begin - HEAD_BYTES
                break
            try:
                # A refusal stands until anything else happens than that the message of the refused call comes.
                refused, self._refused = self._refused, None
                self._receive(kind, flags, stream_id & _STREAM_BITS, data, begin, at)
                if refused is not None and kind == _DATA and stream_id == self.last_id:
                    at = self._refuse_repeats(data, at, refused)
            except StreamFault as fault:
                self._break(fault)
        self._settle()
        return data[at:]

    def _receive(self, kind: int, flags: int, stream_id: int, data: bytes, at: int, stop: int) -> None:
        if self._fragments is not None:
            self._continue(kind, flags, stream_id, data[at:stop])
        elif kind == _DATA:
            self._data(flags, stream_id, data, at, stop)
        elif kind == _HEADERS and flags == END_HEADERS:
            self._request(stream_id, data[at:stop], False)
        elif kind == _HEADERS:
            self._headers(flags, stream_id, data, at, stop)
        elif kind == Kind.CONTINUATION:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "nothing is to be continued")
        else:
            self._control.count(self.read_s)
            self._control.receive(kind, flags, stream_id, data[at:stop])

    def _data(self, flags: int, stream_id: int, data: bytes, at: int, stop: int) -> None:
        self._uncredited_bytes += stop - at
        if flags & PADDED:
            at, stop = self._without_padding(stream_id, data, at, stop)
        if at == stop:
            self._control.count(self.read_s)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._stray(stream_id, flags)
        elif stream.is_ended:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED)
        else:
            stream.receive(data, at, stop, flags & END_STREAM != 0)

    def _without_padding(self, stream_id: int, data: bytes, at: int, stop: int) -> tuple[int, int]:
        padding = data[at] + 1 if at < stop else 1
        if padding > stop - at:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
        if stream_id in self.streams:
            # A stream's window has room for one message; padding must not use it up.
            self.output.put(window_update(stream_id, padding))
        return at + 1, stop - padding + 1

    def _stray(self, stream_id: int, flags: int) -> None:
        if not stream_id or stream_id > self.last_id:
            if stream_id > self.last_call_id:
                return
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA for a stream that was never opened")
        if stream_id not in self._early:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED)
        if flags & END_STREAM:
            self._early.discard(stream_id)

    def _headers(self, flags: int, stream_id: int, data: bytes, at: int, stop: int) -> None:
        fault = None
        if flags & PADDED:
            padding = data[at] if at < stop else 0
            at, stop = at + 1, stop - padding
        if flags & PRIORITIZED:
            try:
                depends_on(stream_id, data[at : at + _PRIORITY_BYTES])
            except StreamFault as found:
                fault = found
            at += _PRIORITY_BYTES
        if at > stop:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
        if not flags & END_HEADERS:
            self._fragments = (stream_id, flags & END_STREAM, bytearray(data[at:stop]))
            self._fragments_s = self.read_s
        else:
            self._request(stream_id, data[at:stop], flags & END_STREAM != 0)
        if fault:
            raise fault

    def _continue(self, kind: int, flags: int, stream_id: int, piece: bytes) -> None:
        begun_id, is_last, block = cast(tuple[int, int, bytearray], self._fragments)
        if kind != Kind.CONTINUATION or stream_id != begun_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block must be continued")
        self._control.count(self.read_s)
        block += piece
        if len(block) > _BLOCK_SHARE * self.limits.header_list_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block is far too long")
        if flags & END_HEADERS:
            self._fragments = None
            self._request(stream_id, bytes(block), is_last != 0)

    def _request(self, stream_id: int, block: bytes, is_last: bool) -> None:
        head = self._blocks.head(block)
        if stream_id <= self.last_id or not stream_id & 1:
            self._end_by_trailers(stream_id, head, is_last)
            return
        if stream_id > self.last_call_id:
            return
        if not self.is_greeted:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame must be SETTINGS")
        self.last_id = stream_id
        if head.is_malformed or head.is_trailers:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR)
        if head.answer is not None:
            self._answer_head(stream_id, head, head.answer, is_last)
            return
        self._refuse_too_many(stream_id)
        method = self.turn.methods.get(head.path)
        if method is None:
            self._stream(stream_id, head, is_last)
            return
        refusal = self.gate.look(head.path, head.metadata, head.timeout_s)
        if refusal is not None:
            self._refuse(stream_id, block, head, refusal, is_last)
            return
        if self.unfinished >= self.limits.unfinished:
            raise StreamFault(stream_id, ErrorCode.REFUSED_STREAM)
        call = UnaryCall(self, stream_id, head, method, self.read_s)
        self.streams[stream_id] = call
        if is_last:
            call.receive(b"", 0, 0, True)

    def _refuse(self, stream_id: int, block: bytes, head: Head, refusal: Refusal, is_last: bool) -> None:
        self._turn_away(stream_id, refusal.block, is_last)
        if refusal.stands and self._blocks.is_lasting(block):
            self._refused = _Refused(block, head, refusal)

    def _refuse_repeats(self, data: bytes, at: int, refused: _Refused) -> int:
        """Refuses what follows the message of a refused call and is like it. Where something else begins."""
        block, head, refusal = refused
        stream_ids, stop, message_bytes = repeats(data, at, block, after_id=self.last_id, last_id=self.last_call_id)
        if stream_ids:
            refusals = self.gate.repeated(head.path, head.metadata, refusal, len(stream_ids))
            told = zip(stream_ids, refusals, strict=True)
            self.output.put(b"".join([headers(stream_id, each.block, END_STREAM) for stream_id, each in told]))
            self.last_id = stream_ids[-1]
            self._uncredited_bytes += message_bytes
            self._control.called(len(stream_ids))
        return stop

    def _stream(self, stream_id: int, head: Head, is_last: bool) -> None:
        handle = self._shared.streaming.get(head.path)
        if handle is None:
            self._turn_away(stream_id, _UNKNOWN.block, is_last)
            return
        if len(self.streamed) >= self.limits.streaming_calls:
            self._turn_away(stream_id, _TOO_MANY_STREAMING.block, is_last)
            return
        self.streamed.add(stream_id)
        call = self.streams[stream_id] = StreamedCall(self, stream_id, head, handle, self.read_s)
        if is_last:
            call.receive(b"", 0, 0, True)

    def _answer_head(self, stream_id: int, head: Head, block: bytes, is_last: bool) -> None:
        if not head.is_http:
            self._turn_away(stream_id, block, is_last)
            return
        self._refuse_too_many(stream_id)
        stream = self.streams[stream_id] = Notice(self, stream_id, head, block)
        if is_last:
            stream.receive(b"", 0, 0, True)

    def _refuse_too_many(self, stream_id: int) -> None:
        if len(self.streams) >= self.limits.streams:
            raise StreamFault(stream_id, ErrorCode.REFUSED_STREAM)

    def _turn_away(self, stream_id: int, block: bytes, is_last: bool) -> None:
        self.put_last(stream_id, block)
        self._control.called()
        if not is_last:
            self._early.add(stream_id, is_told=False)

    def _end_by_trailers(self, stream_id: int, head: Head, is_last: bool) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            if not stream_id & 1:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "clients open streams with odd numbers")
            if stream_id not in self._early:
                raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS for a stream that is closed")
            if is_last:
                self._early.discard(stream_id)
            return
        if stream.is_ended:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED)
        if not is_last or not head.is_trailers:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR)
        stream.receive(b"", 0, 0, True)

    def _break(self, fault: StreamFault) -> None:
        self._control.count(self.read_s)
        self.output.put(reset(fault.stream_id, fault.code))
        self.leave(fault.stream_id)
        self._early.add(fault.stream_id)

    def _settle(self) -> None:
        """After a read: gives back the window that it used, and asks those to stop who were refused and still send."""
        self._refused = None
        if self._uncredited_bytes >= self.window_share_bytes:
            self.output.put(window_update(0, self._uncredited_bytes))
            self._uncredited_bytes = 0
        for stream_id in self._early.to_be_told():
            self.output.put(reset(stream_id, ErrorCode.NO_ERROR))
        # Whoever is refused need not wait for those whose calls are now answered.
        self.output.flush()
