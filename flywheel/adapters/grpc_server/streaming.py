"""A streaming call on its connection: a task that reads messages from the client and writes the handler's back."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from flywheel.adapters.grpc_server.blocks import INITIAL, trailers
from flywheel.adapters.grpc_server.calls import NO_TRAILERS, Streaming
from flywheel.adapters.grpc_server.frames import END_STREAM, ErrorCode, StreamFault, headers, window_update
from flywheel.adapters.grpc_server.heads import Head
from flywheel.adapters.grpc_server.messages import Messages, prefixed
from flywheel.adapters.grpc_server.status import CallFailed, Status, percent_encoded
from flywheel.adapters.logs import logger

if TYPE_CHECKING:
    from flywheel.adapters.grpc_server.connection import Connection

_log = logger(__name__)


class StreamedCall:
    """What a handler sees as `StreamCall`, and its connection as a stream."""

    def __init__(self, connection: Connection, stream_id: int, head: Head, handle: Streaming, now_s: float) -> None:
        self.stream_id = stream_id
        self.path = head.path
        self.metadata: Mapping[str, str] = head.metadata
        self.arrived_s = now_s
        self.deadline_s = now_s + head.timeout_s
        self.credit_bytes = 0
        self.is_ended = False
        self._connection = connection
        self._messages = Messages(connection.limits.message_bytes, is_gzip=head.is_gzip)
        self._room_bytes = connection.stream_window_bytes
        self._is_deaf = False
        self._stirred = asyncio.Event()
        self._has_gone = asyncio.Event()
        connection.output.put(headers(stream_id, INITIAL, 0))
        self._task = asyncio.get_running_loop().create_task(self._run(handle))

    def receive(self, data: bytes, at: int, stop: int, is_last: bool) -> None:
        """Takes data[at:stop] of the request."""
        self.is_ended = is_last
        self._room_bytes -= stop - at
        if self._room_bytes < 0:
            raise StreamFault(self.stream_id, ErrorCode.FLOW_CONTROL_ERROR)
        connection = self._connection
        if not self._is_deaf:
            self._messages.feed(data[at:stop])
            connection.kept_bytes += stop - at
        if connection.kept_bytes > connection.limits.kept_bytes:
            self._finish(Status.RESOURCE_EXHAUSTED, "too many messages of one connection wait")
            self._task.cancel()
        self._stirred.set()

    def sent(self) -> None:
        """The message that waited has gone."""
        self._has_gone.set()

    def check(self, now_s: float) -> None:
        """A stream may take as long as it likes."""

    def cancel(self) -> None:
        """The caller has gone."""
        self._task.cancel()

    def forget(self) -> None:
        """Gives back what came and was not asked for; nothing more is kept."""
        self._is_deaf = True
        self._connection.kept_bytes -= self._messages.clear()
        self._connection.streamed.discard(self.stream_id)

    async def _run(self, handle: Streaming) -> None:
        try:
            async with asyncio.timeout(None if self.deadline_s == math.inf else self.deadline_s - time.perf_counter()):
                answers = cast(AsyncGenerator[bytes, None], handle(self._requests(), self))
                async with aclosing(answers):
                    async for answer in answers:
                        await self._send(answer)
            self._finish(Status.OK, "")
        except CallFailed as failed:
            self._finish(failed.status, failed.reason, failed.trailers)
        except TimeoutError:
            self._finish(Status.DEADLINE_EXCEEDED, "the deadline has passed")
        except Exception as error:
            _log.error("call_failed", path=self.path, exc_info=error)
            self._finish(Status.INTERNAL, "the call failed; the server's log says why")

    async def _requests(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                while message := self._next():
                    yield message[0]
                if self.is_ended:
                    break
                self._stirred.clear()
                await self._stirred.wait()
            if self._messages.kept_bytes:
                raise CallFailed(Status.INTERNAL, "the request ended before its message did")
        finally:
            # The handler asks for nothing more, so what else comes is passed over.
            self._is_deaf = True
            self._connection.kept_bytes -= self._messages.clear()

    def _next(self) -> tuple[bytes, int] | None:
        kept_bytes = self._messages.kept_bytes
        try:
            taken = self._messages.take()
        finally:
            self._connection.kept_bytes -= kept_bytes - self._messages.kept_bytes
        if taken is not None:
            self._room_bytes += taken[1]
            if not self.is_ended:
                self._connection.output.put(window_update(self.stream_id, taken[1]))
        return taken

    async def _send(self, message: bytes) -> None:
        self._has_gone.clear()
        connection = self._connection
        if not connection.output.send(self, prefixed(message), b""):
            await self._has_gone.wait()
        # Short questions with long answers must neither hold up the others nor pile up unread.
        await asyncio.sleep(0)
        await connection.writable.wait()

    def _finish(self, status: Status, reason: str, extra: Mapping[str, str] = NO_TRAILERS) -> None:
        connection = self._connection
        if connection.streams.get(self.stream_id) is not self:
            return
        connection.output.drop(self.stream_id)
        last = trailers(status, percent_encoded(reason), extra)
        connection.output.put(headers(self.stream_id, last, END_STREAM))
        connection.release(self)
