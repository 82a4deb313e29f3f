"""What a connection knows of each stream, whatever kind of call it carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flywheel.adapters.grpc_server.frames import END_STREAM, ErrorCode, Kind, StreamFault, frame, headers
from flywheel.adapters.grpc_server.heads import Head
from flywheel.adapters.grpc_server.output import Outgoing

if TYPE_CHECKING:
    from flywheel.adapters.grpc_server.connection import Connection

_NOT_GRPC = b"This port speaks gRPC.\n"


class Stream(Outgoing, Protocol):
    """A stream in flight."""

    is_ended: bool
    """The client has sent everything."""

    def receive(self, data: bytes, at: int, stop: int, is_last: bool) -> None:
        """Takes data[at:stop] of the request. Raises StreamFault."""

    def check(self, now_s: float) -> None:
        """Looks, every second or so, whether it takes too long."""

    def cancel(self) -> None:
        """The caller has gone."""

    def forget(self) -> None:
        """Gives back what is kept of an unfinished message."""


class Notice:
    """The answer to a request that is HTTP/2 and not gRPC, once it has come whole."""

    def __init__(self, connection: Connection, stream_id: int, head: Head, block: bytes) -> None:
        self.stream_id = stream_id
        self.credit_bytes = 0
        self.is_ended = False
        self._connection = connection
        self._block = block
        self._left_bytes = head.content_bytes
        self._begun_s = connection.read_s

    def receive(self, _: bytes, at: int, stop: int, is_last: bool) -> None:
        """Passes over the request, but for its announced length."""
        self.is_ended = is_last
        if self._left_bytes is not None:
            self._left_bytes -= stop - at
            if self._left_bytes < 0 or (is_last and self._left_bytes):
                raise StreamFault(self.stream_id, ErrorCode.PROTOCOL_ERROR)
        if is_last:
            self._answer()

    def sent(self) -> None:
        """The whole answer has gone."""
        self._connection.release(self)

    def check(self, now_s: float) -> None:
        """Answers before a request that is sent too slowly has come."""
        if not self.is_ended and now_s - self._begun_s > self._connection.limits.request_s:
            self._answer()

    def cancel(self) -> None:
        """Nothing is under way."""

    def forget(self) -> None:
        """Nothing is kept."""

    def _answer(self) -> None:
        output, stream_id = self._connection.output, self.stream_id
        output.put(headers(stream_id, self._block, 0))
        if output.send(self, _NOT_GRPC, frame(Kind.DATA, END_STREAM, stream_id)):
            self._connection.release(self)
