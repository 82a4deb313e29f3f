"""Between a process that accepts connections and the workers that serve them: messages, and connections themselves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from enum import IntEnum

from flywheel.adapters.logs import logger

_MESSAGE_BYTES = 64 * 1024
_CHUNK_BYTES = 32 * 1024
_TELL_AGAIN_S = 0.5
_log = logger(__name__)


class Word(IntEnum):
    """What a message is about: its first byte."""

    CONNECTION = 1
    """To a worker, with the connection: serve this."""
    SHED = 2
    """To a worker, with a number: ask so many clients to come again."""
    READY = 3
    """From a worker, with the port of its metrics."""
    COUNTS = 4
    """From a worker, with two numbers of eight bytes: connections that came since it began, and that have gone."""
    LAST_METRICS = 5
    """From a worker that ends, with a piece of its metrics."""
    ALIVE = 6
    """From a worker that serves, again and again: its event loop turns."""


OnMessage = Callable[[Word, bytes, socket.socket | None], None]


class WorkerChannel:
    """One end of a pair. Nothing here blocks, but for `send_all`."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_message: OnMessage = _ignore
        self._on_end: Callable[[], None] = lambda: None
        end.setblocking(False)

    @classmethod
    def pair(cls) -> tuple[WorkerChannel, socket.socket]:
        """The near end, and the far one to be inherited by a worker."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(near), far

    @classmethod
    def inherited(cls, descriptor: int) -> WorkerChannel:
        """The far end, in the worker."""
        return cls(socket.socket(fileno=descriptor))

    def send(self, word: Word, payload: bytes = b"", connected: socket.socket | None = None) -> bool:
        """Whether the message was taken: not by an end that has gone or does not read."""
        message = bytes([word]) + payload
        try:
            if connected is None:
                self._end.send(message)
            else:
                socket.send_fds(self._end, [message], [connected.fileno()])
        except OSError:
            return False
        return True

    def send_all(self, word: Word, payload: bytes) -> None:
        """The payload in as many messages as it takes, for a process that has nothing else to do."""
        self._end.setblocking(True)
        for at in range(0, len(payload), _CHUNK_BYTES):
            self.send(word, payload[at : at + _CHUNK_BYTES])

    def watch(self, on_message: OnMessage, on_end: Callable[[], None]) -> None:
        """Calls back for each message, and once when the other end has gone."""
        self._on_message, self._on_end = on_message, on_end
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._end, self._read)

    def close(self) -> None:
        """Hears what was said already, and lets go of this end."""
        self._read()
        self._forget()
        self._end.close()

    def _forget(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._end)
            self._loop = None

    def _read(self) -> None:
        while self._loop is not None:
            try:
                message, descriptors, _, _ = socket.recv_fds(self._end, _MESSAGE_BYTES, 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                message, descriptors = b"", []
            if not message:
                self._forget()
                self._on_end()
                return
            connected = socket.socket(fileno=descriptors[0]) if descriptors else None
            self._on_message(Word(message[0]), message[1:], connected)


class ConnectionCounts:
    """Counts, in a worker, the connections that came and those that have gone, and tells both through the channel.

    They are whole numbers, so that one message makes good for those that were not taken.
    """

    def __init__(self, channel: WorkerChannel) -> None:
        self._channel = channel
        self._came = 0
        self._gone = 0
        self._again: asyncio.TimerHandle | None = None

    def came(self) -> None:
        """Another one is here."""
        self._came += 1
        self._tell_now()

    def gone(self) -> None:
        """Another one has gone."""
        self._gone += 1
        self._tell_now()

    def dropped(self) -> None:
        """One was sent and did not arrive, which is how the system says that this process is out of descriptors."""
        _log.warning("connection_not_received")
        self._gone += 1
        self.came()

    def _tell_now(self) -> None:
        if self._again is None:
            self._tell()

    def _tell(self) -> None:
        told = self._channel.send(Word.COUNTS, self._came.to_bytes(8, "big") + self._gone.to_bytes(8, "big"))
        self._again = None if told else asyncio.get_running_loop().call_later(_TELL_AGAIN_S, self._tell)


class Heartbeat:
    """Tells through the channel, from a worker's event loop and from now on, that the loop turns."""

    def __init__(self, channel: WorkerChannel, every_s: float) -> None:
        self._channel = channel
        self._every_s = every_s
        self._beat()

    def _beat(self) -> None:
        # One that is not taken is no loss: the other end has enough to read.
        self._channel.send(Word.ALIVE)
        asyncio.get_running_loop().call_later(self._every_s, self._beat)


def _ignore(_word: Word, _payload: bytes, _connected: socket.socket | None) -> None:
    """Before anybody watches."""
