"""What one turn of the event loop brings, over all connections: calls gathered by method, answers by connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from flywheel.adapters.grpc_server.calls import Call, Unary
from flywheel.adapters.grpc_server.limits import Limits
from flywheel.adapters.grpc_server.output import Output
from flywheel.adapters.grpc_server.status import Status
from flywheel.adapters.logs import logger

_log = logger(__name__)


class Method:
    """One unary method and the calls that wait to be handed to it."""

    __slots__ = ("calls", "handle", "message_bytes", "path")

    def __init__(self, path: str, handle: Unary, message_bytes: int) -> None:
        self.path = path
        self.message_bytes = message_bytes
        self.handle = handle
        self.calls: list[Call] = []


class Turn:
    """Hands over and writes once a turn. Everything read before, on whatever connection, goes together."""

    def __init__(
        self, later: Callable[[Callable[[], None]], asyncio.Handle], unary: Mapping[str, Unary], limits: Limits
    ) -> None:
        longest = limits.message_bytes_of
        self.methods = {
            path: Method(path, handle, longest.get(path, limits.message_bytes)) for path, handle in unary.items()
        }
        self._later = later
        self._ready: list[Method] = []
        self._written: list[Output] = []
        self._is_due = False

    def ready(self, method: Method, call: Call) -> None:
        """The call is complete."""
        if not method.calls:
            self._ready.append(method)
            self._schedule()
        method.calls.append(call)

    def written(self, output: Output) -> None:
        """The output has something to flush."""
        self._written.append(output)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._later(self._run)

    def _run(self) -> None:
        # Still due: what handlers answer right away is flushed below, without another turn.
        ready, self._ready = self._ready, []
        for method in ready:
            calls, method.calls = method.calls, []
            self._hand_over(method, [call for call in calls if not call.cancelled])
        self._is_due = False
        written, self._written = self._written, []
        for output in written:
            try:
                output.flush()
            except Exception as error:
                # The transport's trouble, of one connection; the others must not wait for ever.
                _log.error("answers_not_written", exc_info=error)

    def _hand_over(self, method: Method, calls: list[Call]) -> None:
        if not calls:
            return
        try:
            method.handle(calls)
        except Exception as error:
            _log.error("calls_failed", path=method.path, calls=len(calls), exc_info=error)
            for call in calls:
                self._give_up(call)

    def _give_up(self, call: Call) -> None:
        try:
            call.fail(Status.INTERNAL, "the call failed; the server's log says why")
        except Exception as error:
            _log.error("call_not_ended", path=call.path, exc_info=error)
