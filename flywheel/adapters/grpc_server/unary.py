"""A unary call on its connection: from its headers to its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING

from flywheel.adapters.grpc_server.blocks import trailers_only
from flywheel.adapters.grpc_server.calls import NO_TRAILERS
from flywheel.adapters.grpc_server.frames import ErrorCode, StreamFault
from flywheel.adapters.grpc_server.heads import Head
from flywheel.adapters.grpc_server.messages import PREFIX_BYTES, declared_bytes, plain
from flywheel.adapters.grpc_server.status import CallFailed, Status, percent_encoded
from flywheel.adapters.grpc_server.turns import Method

if TYPE_CHECKING:
    from flywheel.adapters.grpc_server.connection import Connection


class UnaryCall:
    """What a handler sees as `Call`, and its connection as a stream."""

    __slots__ = (
        "_callbacks",
        "_connection",
        "_has_begun",
        "_head",
        "_is_answered",
        "_is_unfinished",
        "_kept",
        "_method",
        "arrived_s",
        "cancelled",
        "credit_bytes",
        "deadline_s",
        "is_ended",
        "message",
        "metadata",
        "path",
        "stream_id",
    )

    def __init__(self, connection: Connection, stream_id: int, head: Head, method: Method, now_s: float) -> None:
        self.stream_id = stream_id
        self.path: str = head.path
        self.metadata: Mapping[str, str] = head.metadata
        self.message = b""
        self.arrived_s = now_s
        self.deadline_s = now_s + head.timeout_s
        self.cancelled = False
        self.credit_bytes = 0
        self.is_ended = False
        """The client has sent everything."""
        self._connection = connection
        self._head = head
        self._method = method
        self._is_answered = False
        self._has_begun = False
        self._is_unfinished = True
        connection.unfinished += 1
        self._kept: bytearray | None = None
        self._callbacks: list[Callable[[], object]] | None = None

    def reply(self, message: bytes) -> None:
        """Answers with a message and OK."""
        if self._is_answered:
            return
        connection = self._connection
        if connection.output.held_bytes > connection.limits.held_bytes:
            self.fail(Status.RESOURCE_EXHAUSTED, "too many answers of one connection wait for its windows")
            return
        self._is_answered = True
        self._tell_end(Status.OK)
        if connection.output.answer(self, message):
            connection.release(self)

    def fail(self, status: Status, reason: str, trailers: Mapping[str, str] = NO_TRAILERS) -> None:
        """Answers with a status, a sentence and trailing metadata."""
        if self._is_answered:
            return
        self._is_answered = True
        connection = self._connection
        self._tell_end(status)
        connection.put_last(self.stream_id, trailers_only(status, percent_encoded(reason), trailers))
        connection.release(self)

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Calls back once when the caller goes before the answer."""
        if self.cancelled:
            callback()
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    def sent(self) -> None:
        """The whole answer has gone."""
        self._connection.release(self)

    def cancel(self) -> None:
        """The caller has gone."""
        if self._is_answered:
            return
        self._is_answered = self.cancelled = True
        self._tell_end(Status.CANCELLED)
        for callback in self._callbacks or ():
            callback()

    def check(self, now_s: float) -> None:
        """Gives up a request that is sent too slowly; its stream and what is kept of it are others' too."""
        if not self.is_ended and now_s - self.arrived_s > self._connection.limits.request_s:
            self.fail(Status.DEADLINE_EXCEEDED, "the request was sent too slowly")

    def receive(self, data: bytes, at: int, stop: int, is_last: bool) -> None:
        """Takes data[at:stop] of the request; hands the call over when that was the last of it."""
        if is_last and self._kept is None and self._head.content_bytes is None:
            begin = at + PREFIX_BYTES
            size = stop - begin
            is_whole = size >= 0 and not data[at] and int.from_bytes(data[at + 1 : begin], "big") == size
            if is_whole and size <= self._method.message_bytes:
                self.is_ended = True
                self.message = data[begin:stop]
                if self._begins():
                    self._connection.turn.ready(self._method, self)
                return
        try:
            self._keep(data[at:stop], is_last)
        except CallFailed as failed:
            self.fail(failed.status, failed.reason)

    def forget(self) -> None:
        """Gives back what is kept of an unfinished message."""
        if self._is_unfinished:
            self._is_unfinished = False
            self._connection.unfinished -= 1
        if self._kept:
            self._connection.kept_bytes -= len(self._kept)
            self._kept = None

    def _keep(self, piece: bytes, is_last: bool) -> None:
        self.is_ended = is_last
        if self._is_answered:
            return
        connection = self._connection
        if self._kept is None:
            self._kept = bytearray()
        kept = self._kept
        kept += piece
        connection.kept_bytes += len(piece)
        limit = self._method.message_bytes
        if len(kept) >= PREFIX_BYTES and len(kept) > declared_bytes(kept, limit) + PREFIX_BYTES:
            raise CallFailed(Status.INTERNAL, "a unary call has one message; there is more")
        if connection.kept_bytes > connection.limits.kept_bytes:
            raise CallFailed(Status.RESOURCE_EXHAUSTED, "too many unfinished messages on one connection")
        if is_last:
            self._complete(kept, limit)

    def _complete(self, kept: bytearray, limit: int) -> None:
        if self._head.content_bytes not in (None, len(kept)):
            raise StreamFault(self.stream_id, ErrorCode.PROTOCOL_ERROR)
        if len(kept) < PREFIX_BYTES or len(kept) < declared_bytes(kept, limit) + PREFIX_BYTES:
            raise CallFailed(Status.INTERNAL, "the request ended before its message did")
        # Unpacking is work, for which it takes a place.
        if self._begins():
            self.message = plain(bytes(kept[PREFIX_BYTES:]), kept[0], limit, is_gzip=self._head.is_gzip)
            self._connection.turn.ready(self._method, self)

    def _begins(self) -> bool:
        """Asks for a place, now that the message is there: what its caller took to send it is nobody else's time."""
        self.forget()
        connection = self._connection
        self.arrived_s = connection.read_s
        refusal = connection.gate.begin(self.path, self.metadata, self.deadline_s - self.arrived_s)
        if refusal is None:
            self._has_begun = True
            return True
        self._is_answered = True
        connection.put_last(self.stream_id, refusal.block)
        connection.release(self)
        return False

    def _tell_end(self, outcome: Status) -> None:
        if self._has_begun:
            self._connection.gate.ended(self.path, self.metadata, perf_counter() - self.arrived_s, outcome)
