"""Keep-alive connections to an HTTP/1.1 server, one request at a time on each; more are opened while all are busy."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import httptools

from loadtests.generator.load import Nobody, Sink
from loadtests.generator.outcomes import Outcome

_TOO_MUCH = (429, 503)


class _Connection(asyncio.Protocol):
    """One request, one answer, the next; httptools tells it what it reads."""

    def __init__(self, pool: Http1Pool) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._transport: Any = None
        self._number = -1
        self._body: list[bytes] = []
        self._keeps = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        number, self._number = self._number, -1
        self._pool.lost(self, number)

    def send(self, number: int, request: bytes) -> None:
        self._number = number
        self._transport.write(request)

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        number, self._number = self._number, -1
        body, self._body = b"".join(self._body), []
        status, keeps = self._parser.get_status_code(), self._parser.should_keep_alive()
        if not keeps:
            self._transport.close()
        self._pool.answered(self, number, status, body, keeps)


class Http1Pool:
    """POSTs JSON to one path; at most so many connections, beyond which requests wait here.

    `bodies`: those that are sent over and over, in turn; or what makes the body of a request of its number.
    """

    def __init__(
        self,
        address: str,
        path: str,
        bodies: Sequence[bytes] | Callable[[int], bytes],
        *,
        connections: int = 512,
    ) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._request_of = _request_of(address, path, bodies)
        self._most = connections
        self._idle: list[_Connection] = []
        self._opened: set[_Connection] = set()
        self._opening = 0
        self._waiting: deque[int] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.sink: Sink = Nobody()
        self.statuses: dict[int, int] = {}
        """How many calls ended with each HTTP status; 0 without one."""
        self.last_answer = b""

    async def open(self, connections: int = 32) -> None:
        """Connects some. Raises OSError."""
        for _ in range(connections):
            await self._open_one()

    async def close(self) -> None:
        """Hangs up."""
        self._closed = True
        for connection in list(self._opened):
            connection.close()
        await asyncio.sleep(0)

    def send(self, numbers: Sequence[int]) -> None:
        """Each on a connection of its own."""
        for number in numbers:
            if self._idle:
                self._idle.pop().send(number, self._request_of(number))
            else:
                self._waiting.append(number)
        self._widen()

    def answered(self, connection: _Connection, number: int, status: int, body: bytes, keeps: bool) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.last_answer = body
        good = Outcome.GOOD if 200 <= status < 300 else Outcome.FAILED
        self.sink.done(number, Outcome.REFUSED if status in _TOO_MUCH else good, time.perf_counter())
        if keeps:
            self._next(connection)
        self.sink.settled()

    def lost(self, connection: _Connection, number: int) -> None:
        self._opened.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if number >= 0 and not self._closed:
            self.statuses[0] = self.statuses.get(0, 0) + 1
            self.sink.done(number, Outcome.FAILED, time.perf_counter())
            self.sink.settled()
        if not self._closed:
            self._widen()

    def _next(self, connection: _Connection) -> None:
        if self._waiting:
            number = self._waiting.popleft()
            connection.send(number, self._request_of(number))
        else:
            self._idle.append(connection)

    def _widen(self) -> None:
        while len(self._waiting) > self._opening and len(self._opened) + self._opening < self._most:
            self._opening += 1
            task = asyncio.get_running_loop().create_task(self._open_late())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open_late(self) -> None:
        try:
            await self._open_one()
        except OSError:
            if self._waiting:
                self.sink.done(self._waiting.popleft(), Outcome.FAILED, time.perf_counter())
        finally:
            self._opening -= 1

    async def _open_one(self) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self), self._host, self._port)
        self._opened.add(connection)
        self._next(connection)


def _request_of(address: str, path: str, bodies: Sequence[bytes] | Callable[[int], bytes]) -> Callable[[int], bytes]:
    if callable(bodies):
        make = bodies
        return lambda number: _request(address, path, make(number))
    made = [_request(address, path, body) for body in bodies]
    return lambda number: made[number % len(made)]


def _request(address: str, path: str, body: bytes) -> bytes:
    lines = (
        f"POST {path} HTTP/1.1",
        f"host: {address}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "\r\n",
    )
    return "\r\n".join(lines).encode() + body
