"""Several connections to a gRPC server, which come again when they are lost or sent away."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence

from loadtests.generator.grpc_connection import GrpcConnection, Message, connect
from loadtests.generator.load import Nobody, Sink
from loadtests.generator.outcomes import Outcome

_OK, _EXHAUSTED = 0, 8
_RECONNECT_EVERY_S = 0.02

Judge = Callable[[bytes], bool]
"""Whether an answer is what was asked for, and no makeshift."""


class GrpcPool:
    """Calls one unary method.

    `messages`: those that are sent over and over, request number n the one at n modulo their count; or what makes the
    message of a request of its number.
    """

    def __init__(
        self,
        address: str,
        method: str,
        messages: Sequence[bytes] | Callable[[int], bytes],
        *,
        connections: int = 8,
        timeout_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
        judge: Judge | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._headers = _headers(address, method, timeout_s, metadata or {}, "https" if tls else "http")
        self._message_of = _message_of(messages)
        self._size = connections
        self._judge = judge
        self._tls = tls
        self._live: list[GrpcConnection] = []
        self._all: list[GrpcConnection] = []
        self._turn = 0
        self._stranded: list[int] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.sink: Sink = Nobody()
        self.statuses: dict[int, int] = {}
        """How many calls ended with each gRPC status."""
        self.last_answer = b""

    async def open(self) -> None:
        """Connects. Raises OSError."""
        for _ in range(self._size):
            await self._add()

    async def close(self) -> None:
        """Hangs up."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for connection in self._all:
            connection.close()
        await asyncio.sleep(0)

    def send(self, numbers: Iterable[int]) -> None:
        """One connection after another gets one; without any they wait."""
        live = self._live
        if not live:
            self._stranded.extend(numbers)
            return
        shares: dict[GrpcConnection, list[int]] = {}
        for number in numbers:
            self._turn += 1
            shares.setdefault(live[self._turn % len(live)], []).append(number)
        for connection, mine in shares.items():
            connection.send(mine)

    def answered(self, number: int, status: int, message: bytes, now_s: float) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == _OK:
            self.last_answer = message
            outcome = Outcome.GOOD if self._judge is None or self._judge(message) else Outcome.DEGRADED
        else:
            outcome = Outcome.REFUSED if status == _EXHAUSTED else Outcome.FAILED
        self.sink.done(number, outcome, now_s)

    def returned(self, numbers: Iterable[int]) -> None:
        """As gRPC clients do: what the server has not begun is sent again elsewhere."""
        again = list(numbers)
        if again and not self._closed:
            asyncio.get_running_loop().call_soon(self.send, again)

    def heard(self) -> None:
        if not self._closed:
            self.sink.settled()

    def gone(self, connection: GrpcConnection) -> None:
        if connection in self._live:
            self._live.remove(connection)
        if not self._closed:
            task = asyncio.get_running_loop().create_task(self._replace())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _replace(self) -> None:
        while not self._closed:
            try:
                await self._add()
            except OSError:
                await asyncio.sleep(_RECONNECT_EVERY_S)
            else:
                return

    async def _add(self) -> None:
        make = lambda: GrpcConnection(self, self._headers, self._message_of)  # noqa: E731
        connection = await connect(make, self._host, self._port, self._tls)
        self._live.append(connection)
        self._all = [each for each in self._all if each.usable or each.under_way] + [connection]
        if self._stranded:
            stranded, self._stranded = self._stranded, []
            self.send(stranded)


def _message_of(messages: Sequence[bytes] | Callable[[int], bytes]) -> Callable[[int], Message]:
    if callable(messages):
        make = messages
        return lambda number: Message(make(number))
    made = [Message(content) for content in messages]
    return lambda number: made[number % len(made)]


def _headers(
    address: str, method: str, timeout_s: float | None, metadata: Mapping[str, str], scheme: str
) -> list[tuple[str, str]]:
    timeout = [] if timeout_s is None else [("grpc-timeout", f"{round(timeout_s * 1e6)}u")]
    return [
        (":method", "POST"),
        (":scheme", scheme),
        (":path", method),
        (":authority", address),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "flywheel-loadtests"),
        *timeout,
        *metadata.items(),
    ]
