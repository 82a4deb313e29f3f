"""What handlers of the port see: calls, streams of messages, and the gate that admits them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from flywheel.adapters.grpc_server.status import CallFailed, Refusal, Status
from flywheel.adapters.logs import logger

NO_TRAILERS: Mapping[str, str] = MappingProxyType({})

_log = logger(__name__)


class Call(Protocol):
    """One unary request, complete. Answer it once, by `reply` or `fail`, from the loop's thread; later answers and
    those to a cancelled call are dropped."""

    path: str
    """`/package.Service/Method`."""
    metadata: Mapping[str, str]
    """Names in lower case; values of `-bin` names as they came, in base64."""
    message: bytes
    arrived_s: float
    """`time.perf_counter()` when the last of it was read."""
    deadline_s: float
    """On the same clock; infinite when the caller set none."""
    cancelled: bool
    """The caller has gone; an answer would reach nobody."""

    def reply(self, message: bytes) -> None:
        """Answers with a message and OK."""

    def fail(self, status: Status, reason: str, trailers: Mapping[str, str] = NO_TRAILERS) -> None:
        """Answers with a status, a sentence and trailing metadata."""

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Calls back once when the caller goes before the answer; at once when it has gone already."""


class StreamCall(Protocol):
    """One streaming call, from its headers on."""

    path: str
    metadata: Mapping[str, str]
    deadline_s: float


Unary = Callable[[Sequence[Call]], None]
"""Takes every call of one method that arrived in one turn of the loop. It must not block."""

Streaming = Callable[[AsyncGenerator[bytes, None], StreamCall], AsyncIterator[bytes]]
"""Turns the caller's messages into answers; raises CallFailed for any status but OK. Closed when the caller goes.

What the caller sends is kept until it is asked for; a handler that needs no more of it closes it.
"""


class Gate(Protocol):
    """Admits unary calls, in two steps: how long a caller takes to send its message must cost others nothing.

    `timeout_s` is the time that the caller gives it, from now on; infinite when it said nothing.
    """

    def look(self, path: str, metadata: Mapping[str, str], timeout_s: float) -> Refusal | None:
        """Why the message need not be sent, or None. Asked when the headers are read; it takes no place."""

    def begin(self, path: str, metadata: Mapping[str, str], timeout_s: float) -> Refusal | None:
        """Why the call is not admitted after all, or None: it has a place. Asked when its message has come whole."""

    def ended(self, path: str, metadata: Mapping[str, str], seconds: float, outcome: Status) -> None:
        """A call that had begun ended after that time; path and metadata are those it was asked with.

        Told exactly once for each, CANCELLED when the caller went.
        """


class PortGate(Gate, Protocol):
    """Admits the calls of a port, of which many may be alike."""

    def repeated(self, path: str, metadata: Mapping[str, str], refusal: Refusal, count: int) -> Iterator[Refusal]:
        """What so many more calls are told, one after the other, of which each is like one that was just refused.

        That refusal stands: they are not looked at.
        """


def awaited(handle: Callable[[Call], Awaitable[bytes]]) -> Unary:
    """A handler of single calls, each in a task of its own, for everything that is not hot.

    The task is cancelled when the caller goes or its deadline passes. CallFailed becomes its status, any other error
    INTERNAL and a line in the log.
    """
    running: set[asyncio.Task[None]] = set()

    async def answer(call: Call) -> None:
        try:
            async with asyncio.timeout(_left_s(call)):
                call.reply(await handle(call))
        except CallFailed as failed:
            call.fail(failed.status, failed.reason, failed.trailers)
        except TimeoutError:
            call.fail(Status.DEADLINE_EXCEEDED, "the deadline has passed")
        except asyncio.CancelledError:
            call.fail(Status.CANCELLED, "the call was given up")
            raise
        except Exception as error:
            _log.error("call_failed", path=call.path, exc_info=error)
            call.fail(Status.INTERNAL, "the call failed; the server's log says why")

    def start(calls: Sequence[Call]) -> None:
        for call in calls:
            task = asyncio.get_running_loop().create_task(answer(call))
            running.add(task)
            task.add_done_callback(running.discard)
            call.on_cancel(task.cancel)

    return start


def _left_s(call: Call) -> float | None:
    return None if call.deadline_s == math.inf else call.deadline_s - time.perf_counter()
