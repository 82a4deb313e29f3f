"""A socket that listens, on the event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from flywheel.adapters.logs import logger

_BACKLOG = 1_024
_QUEUED = _BACKLOG + 1
"""The most that can be connected and not accepted yet."""
_ACCEPTED_AT_ONCE = 64
_RETRY_S = 0.5
_log = logger(__name__)


async def bound(address: str) -> socket.socket:
    """A socket that listens on `host:port`, whose callers wait until somebody accepts. Raises OSError, ValueError."""
    host, _, port = address.rpartition(":")
    found = await asyncio.get_running_loop().getaddrinfo(
        host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, _, _, _, place = found[0]
    # Without reuse of the port: two servers on one would share its calls silently.
    return socket.create_server(place[:2], family=family, backlog=_BACKLOG)


class Listener:
    """Hands over each connection while it is open. Out of descriptors, it waits a moment instead of spinning."""

    def __init__(self, listening: socket.socket, on_connection: Callable[[socket.socket], None]) -> None:
        listening.setblocking(False)
        self._listening = listening
        self._on_connection = on_connection
        self._loop = asyncio.get_running_loop()
        self._is_open = False
        self._retry: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listening.getsockname()[1])

    def open(self) -> None:
        """Accepts from now on."""
        if not self._is_open:
            self._is_open = True
            self._loop.add_reader(self._listening, self._accept)

    def pause(self) -> None:
        """Leaves callers waiting."""
        if self._retry:
            self._retry.cancel()
            self._retry = None
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._listening)

    def close(self) -> None:
        """Accepts who is connected already, so as not to cut them off, and no one else."""
        if self._is_open:
            self._accept(at_most=_QUEUED)
        self.pause()
        self._listening.close()

    def _accept(self, at_most: int = _ACCEPTED_AT_ONCE) -> None:
        for _ in range(at_most):
            try:
                connected, _ = self._listening.accept()
            except (InterruptedError, ConnectionAbortedError):
                continue
            except BlockingIOError:
                return
            except OSError as error:
                _log.warning("connection_not_accepted", reason=str(error))
                self.pause()
                self._retry = self._loop.call_later(_RETRY_S, self.open)
                return
            self._on_connection(connected)
