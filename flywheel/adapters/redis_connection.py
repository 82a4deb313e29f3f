"""A lasting, pipelined connection to Redis for reads that are due within milliseconds."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from flywheel.adapters.logs import logger
from flywheel.adapters.redis_commands import Argument, Commands, HashReads, pack, together
from flywheel.adapters.redis_wire import NodeAway, RefusedCommand, Wire, late
from flywheel.kernel.ports import Unavailable

__all__ = ["Commands", "Connection", "HashReads", "NodeAway", "RedisConnection", "RefusedCommand", "pack", "together"]

_log = logger(__name__)

_BACKOFF_FROM_S = 0.01
_BACKOFF_UNTIL_S = 1.0


class Connection(Protocol):
    """The way to the online store, whether that is one Redis or a cluster."""

    def execute(self, commands: Commands, timeout_s: float) -> Awaitable[list[Any]]:
        """One reply for each command, in order: bytes, int, list, None, or a RefusedCommand in its place.

        Raises Unavailable when nothing of the store can be reached or answers in time.
        """

    async def close(self) -> None:
        """Ends the connection; calls under way fail."""


class RedisConnection:
    """A connection that comes by itself with the first call, and again after it was lost.

    Bound to the event loop of its first call. After a failed attempt the next is not made at once, but after a pause
    that doubles up to a second; calls until then are refused immediately. A connection from which nothing is heard for
    `silent_s` while replies are owed is given up. Beyond `max_owed` replies further calls are refused.
    """

    def __init__(
        self, url: str, *, connect_timeout_s: float = 1.0, silent_s: float = 1.0, max_owed: int = 50_000
    ) -> None:
        self._address = _Address.of(url)
        self._connect_timeout_s = connect_timeout_s
        self._silent_s = silent_s
        self._max_owed = max_owed
        self._wire: Wire | None = None
        self._opening: asyncio.Task[None] | None = None
        self._pause_s = _BACKOFF_FROM_S
        self._again_at_s = 0.0
        self._failure = "there is no connection"
        self._closed = False

    def execute(self, commands: Commands, timeout_s: float) -> Awaitable[list[Any]]:
        """One reply for each command, in order: bytes, int, list, None, or a RefusedCommand in its place.

        Raises Unavailable when Redis cannot be reached or does not answer in time.
        """
        wire = self._wire
        if wire is None or wire.lost:
            return self._execute_connected(commands, timeout_s)
        if wire.owed > self._max_owed:
            raise Unavailable(f"the feature store owes {wire.owed} replies already")
        return wire.ask(commands, timeout_s)

    async def close(self) -> None:
        """Ends the connection; calls under way fail."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait((self._opening,))
        if self._wire is not None:
            await self._wire.close()

    async def _execute_connected(self, commands: Commands, timeout_s: float) -> list[Any]:
        began_s = asyncio.get_running_loop().time()
        await self._connected(timeout_s)
        return await self.execute(commands, timeout_s - (asyncio.get_running_loop().time() - began_s))

    async def _connected(self, timeout_s: float) -> None:
        if self._closed:
            raise Unavailable("the connection to the feature store is closed")
        loop = asyncio.get_running_loop()
        if self._opening is None:
            if loop.time() < self._again_at_s:
                raise Unavailable(f"the feature store failed: {self._failure}")
            self._opening = loop.create_task(self._open(loop))
        # Others may wait for the same attempt: it goes on when this call gives up.
        await asyncio.wait((self._opening,), timeout=timeout_s)
        if self._wire is not None and not self._wire.lost:
            return
        if self._opening is not None:
            raise late(timeout_s)
        raise Unavailable(f"the feature store failed: {self._failure}")

    async def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                self._wire = await self._address.connect(loop, self._silent_s, self._connect_timeout_s)
        except (OSError, TimeoutError, Unavailable, RefusedCommand) as error:
            self._failure = str(error) or type(error).__name__
            self._again_at_s = loop.time() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _BACKOFF_UNTIL_S)
            _log.warning("feature_store_not_connected", error=self._failure)
        else:
            self._pause_s = _BACKOFF_FROM_S
        finally:
            self._opening = None


class _Address(NamedTuple):
    host: str
    port: int
    tls: bool
    greeting: Commands

    @classmethod
    def of(cls, url: str) -> _Address:
        """ValueError unless it is `redis[s]://[[user]:password@]host[:port][/database]`."""
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise ValueError("the feature store's address must be like redis://host:6379/0")
        commands: list[Sequence[Argument]] = []
        if parts.password:
            user = (unquote(parts.username),) if parts.username else ()
            commands.append(("AUTH", *user, unquote(parts.password)))
        if database := parts.path.strip("/"):
            commands.append(("SELECT", int(database)))
        return cls(parts.hostname, parts.port or 6379, parts.scheme == "rediss", pack(*commands))

    async def connect(self, loop: asyncio.AbstractEventLoop, silent_s: float, timeout_s: float) -> Wire:
        context = ssl.create_default_context() if self.tls else None
        _, wire = await loop.create_connection(lambda: Wire(loop, silent_s), self.host, self.port, ssl=context)
        try:
            for reply in await wire.ask(self.greeting, timeout_s):
                if isinstance(reply, RefusedCommand):
                    raise reply
        except BaseException:
            await wire.close()
            raise
        return wire
