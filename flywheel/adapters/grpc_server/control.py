"""Frames that carry no request: settings, pings, windows, resets. A client may send so many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flywheel.adapters.grpc_server.frames import (
    ACK,
    FRAME_BYTES,
    LARGEST_WINDOW,
    ConnectionFault,
    ErrorCode,
    Kind,
    Setting,
    StreamFault,
    frame,
)

if TYPE_CHECKING:
    from flywheel.adapters.grpc_server.connection import Connection

_LARGEST_FRAME = 2**24 - 1
_SIZES = {Kind.PRIORITY: 5, Kind.RST_STREAM: 4, Kind.PING: 8, Kind.WINDOW_UPDATE: 4}
DRAIN_PING = b"draining"


class Control:
    """The control frames of one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._second = 0
        self._frames = 0

    def called(self, calls: int = 1) -> None:
        """A call was answered. Clients send a frame or so with each, so that one of them is not counted."""
        self._frames -= calls

    def count(self, now_s: float, frames: int = 1) -> None:
        """One more frame that is no request. Raises ConnectionFault when there are too many in a second."""
        second = int(now_s)
        if second != self._second:
            self._second, self._frames = second, 0
        self._frames += frames
        if self._frames > self._connection.limits.control_frames_per_s:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many control frames")

    def receive(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Acts on a frame. Raises ConnectionFault and StreamFault as the protocol says."""
        if not self._connection.is_greeted and kind != Kind.SETTINGS:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame must be SETTINGS")
        size = _SIZES.get(kind)  # type: ignore[call-overload]
        if size is not None and len(payload) != size:
            _fail_size(kind, stream_id)
        if kind == Kind.WINDOW_UPDATE:
            self._window_update(stream_id, int.from_bytes(payload, "big") & LARGEST_WINDOW)
        elif kind == Kind.RST_STREAM:
            self._reset(stream_id)
        elif kind == Kind.PRIORITY:
            depends_on(stream_id, payload)
        elif kind == Kind.PUSH_PROMISE:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "clients cannot push")
        elif kind in (Kind.SETTINGS, Kind.PING, Kind.GOAWAY):
            self._of_connection(kind, flags, stream_id, payload)

    def _of_connection(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame of the connection names a stream")
        if kind == Kind.SETTINGS:
            self._settings(flags, payload)
        elif kind == Kind.PING and not flags & ACK:
            self._connection.output.put(frame(Kind.PING, ACK, 0, payload))
        elif kind == Kind.PING and payload == DRAIN_PING:
            self._connection.last_call()

    def _settings(self, flags: int, payload: bytes) -> None:
        self._connection.is_greeted = True
        if flags & ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement has a payload")
            return
        if len(payload) % 6:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS are six bytes each")
        # Acknowledged first: what a larger window lets go comes after it.
        self._connection.output.put(frame(Kind.SETTINGS, ACK, 0))
        for at in range(0, len(payload), 6):
            name, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            self._set(name, value)

    def _set(self, name: int, value: int) -> None:
        if name == Setting.INITIAL_WINDOW_SIZE:
            if value > LARGEST_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
            output = self._connection.output
            # It changes the window of each answer that waits, and counts as much.
            self.count(self._connection.read_s, output.held)
            output.initial_bytes = value
            output.resume_all()
        elif name == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        elif name == Setting.MAX_FRAME_SIZE and not FRAME_BYTES <= value <= _LARGEST_FRAME:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range")

    def _window_update(self, stream_id: int, increment: int) -> None:
        output = self._connection.output
        if not stream_id:
            if not increment:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a window grows by nothing")
            output.window_bytes += increment
            if output.window_bytes > LARGEST_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")
            output.resume()
        else:
            if self._is_too_late(stream_id):
                return
            stream = self._connection.streams.get(stream_id)
            if not increment:
                raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR)
            if stream is None:
                return
            stream.credit_bytes += increment
            if output.initial_bytes + stream.credit_bytes > LARGEST_WINDOW:
                raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR)
            output.resume_stream(stream_id)

    def _reset(self, stream_id: int) -> None:
        if not self._is_too_late(stream_id):
            self._connection.leave(stream_id)

    def _is_too_late(self, stream_id: int) -> bool:
        """Whether its call came after the last one and is passed over. Raises for a stream that was never opened."""
        if 0 < stream_id <= self._connection.last_id:
            return False
        if stream_id > self._connection.last_call_id:
            return True
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame for a stream that was never opened")


def depends_on(stream_id: int, priority: bytes) -> None:
    """Raises when the stream is said to depend on itself. Priorities are deprecated; nothing else is done with them."""
    if not stream_id:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the connection has no priority")
    if int.from_bytes(priority[:4], "big") & LARGEST_WINDOW == stream_id:
        raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR)


def _fail_size(kind: int, stream_id: int) -> None:
    if kind == Kind.PRIORITY and stream_id:
        raise StreamFault(stream_id, ErrorCode.FRAME_SIZE_ERROR)
    raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame has a wrong size")
