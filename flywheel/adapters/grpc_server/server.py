"""The port: accepts connections, hands their calls to handlers, and closes without failing a call."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from time import perf_counter

from flywheel.adapters.grpc_server.calls import PortGate, Streaming, Unary
from flywheel.adapters.grpc_server.connection import Connection, Shared
from flywheel.adapters.grpc_server.gates import OpenGate
from flywheel.adapters.grpc_server.limits import Limits
from flywheel.adapters.grpc_server.turns import Turn
from flywheel.adapters.listener import Listener, bound
from flywheel.adapters.logs import logger

_CHECK_EVERY_S = 0.5
_LAST_CALL_AFTER_S = 0.5
_log = logger(__name__)


class GrpcServer:
    """A gRPC server for the running event loop, to be made on it. `listen` (or `adopt`), then `drain`, once each.

    `tls` may be replaced at any time; connections made afterwards use the new one. `on_closed` hears of the end of each
    connection, adopted ones that never came about included.
    """

    def __init__(
        self,
        unary: Mapping[str, Unary],
        streaming: Mapping[str, Streaming] | None = None,
        *,
        gate: PortGate | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        on_closed: Callable[[], object] = lambda: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.tls = tls
        self._limits = limits or Limits()
        turn = Turn(self._loop.call_soon, unary, self._limits)
        self._shared = Shared(gate or OpenGate(), self._limits, turn, streaming or {}, on_closed=on_closed)
        self._listener: Listener | None = None
        self._is_draining = False
        self._adopting: set[asyncio.Task[None]] = set()
        self._checking = self._loop.create_task(self._check())

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._shared.connections)

    async def listen(self, address: str | socket.socket) -> int:
        """Answers on `host:port`, or on a socket that listens already; the port. Raises OSError when it is taken."""
        listening = address if isinstance(address, socket.socket) else await bound(address)
        self._listener = Listener(listening, self.adopt)
        self._listener.open()
        return self._listener.port

    def adopt(self, connected: socket.socket) -> None:
        """Serves a connection that was accepted elsewhere."""
        if len(self._shared.connections) + len(self._adopting) >= self._limits.connections:
            connected.close()
            self._shared.on_closed()
            return
        task = self._loop.create_task(self._adopt(connected))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    def shed(self, count: int) -> None:
        """Asks so many clients to connect anew, which may bring them elsewhere; their calls are finished."""
        staying = [connection for connection in self._shared.connections if not connection.is_leaving]
        for connection in staying[:count]:
            connection.depart()

    async def drain(self, grace_s: float) -> None:
        """Takes no new connection, asks all clients to go, finishes their calls; after the grace, ends what is left."""
        self._is_draining = True
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        until_s = perf_counter() + grace_s
        if self._adopting:
            await asyncio.wait(self._adopting, timeout=grace_s)
        self._ask_to_go()
        await self._emptied(min(until_s, perf_counter() + _LAST_CALL_AFTER_S))
        for connection in list(self._shared.connections):
            # It did not say that it knows; what it sent by now is served all the same.
            connection.last_call()
        await self._emptied(until_s)
        for connection in list(self._shared.connections):
            connection.abort()
        self._checking.cancel()
        await asyncio.wait([self._checking])

    def _ask_to_go(self) -> None:
        for connection in list(self._shared.connections):
            connection.depart()

    async def _adopt(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        handshake_s = self._limits.handshake_s if self.tls else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: Connection(self._shared), connected, ssl=self.tls, ssl_handshake_timeout=handshake_s
            )
            if self._is_draining:
                self._ask_to_go()
        except (TimeoutError, OSError, ssl.SSLError) as error:
            _log.debug("connection_not_made", reason=str(error))
            connected.close()
            self._shared.on_closed()

    async def _emptied(self, until_s: float) -> None:
        while self._shared.connections and perf_counter() < until_s:
            await asyncio.sleep(0.005)

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_EVERY_S)
            now_s = perf_counter()
            for connection in list(self._shared.connections):
                connection.check(now_s)
