"""Calls that come over HTTP and are answered by the very methods that answer them over gRPC."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter

from flywheel.adapters.grpc_server.calls import NO_TRAILERS, Gate, Unary
from flywheel.adapters.grpc_server.status import CallFailed, Status
from flywheel.adapters.http_problem import Problem


class HttpCall:
    """What a method sees as `Call`."""

    def __init__(self, path: str, metadata: Mapping[str, str], message: bytes, patience_s: float) -> None:
        self.path = path
        self.metadata = metadata
        self.message = message
        self.arrived_s = perf_counter()
        self.deadline_s = self.arrived_s + patience_s
        self.cancelled = False
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._callbacks: list[Callable[[], object]] = []

    def reply(self, message: bytes) -> None:
        """Answers with a message."""
        if not self.answer.done():
            self.answer.set_result(message)

    def fail(self, status: Status, reason: str, trailers: Mapping[str, str] = NO_TRAILERS) -> None:
        """Answers with a status."""
        if not self.answer.done():
            self.answer.set_exception(CallFailed(status, reason, trailers))

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Calls back once when the caller goes before the answer."""
        if self.cancelled:
            callback()
        else:
            self._callbacks.append(callback)

    def cancel(self) -> None:
        """Nobody waits any more."""
        self.cancelled = True
        self.answer.cancel()
        for callback in self._callbacks:
            callback()


class Methods:
    """The methods of the serving port, asked from within the process, behind the same gate."""

    def __init__(self, unary: Mapping[str, Unary], gate: Gate) -> None:
        self._unary = unary
        self._gate = gate

    def __contains__(self, path: str) -> bool:
        return path in self._unary

    async def ask(self, path: str, metadata: Mapping[str, str], message: bytes, patience_s: float = math.inf) -> bytes:
        """The serialized answer. Raises CallFailed, also when it is not admitted or does not come in time."""
        with self.admitted(path, metadata, patience_s):
            call = HttpCall(path, metadata, message, patience_s)
            try:
                self._unary[path]([call])
                async with asyncio.timeout(None if patience_s == math.inf else patience_s):
                    return await call.answer
            except TimeoutError as error:
                raise CallFailed(
                    Status.DEADLINE_EXCEEDED, f"the {patience_s * 1000:.4g} ms that the caller gave are over"
                ) from error
            finally:
                if not call.answer.done() or call.answer.cancelled():
                    call.cancel()

    @contextmanager
    def admitted(self, path: str, metadata: Mapping[str, str], patience_s: float) -> Iterator[None]:
        """Holds a place at the gate until the block ends. Raises CallFailed when there is none."""
        refusal = self._gate.look(path, metadata, patience_s) or self._gate.begin(path, metadata, patience_s)
        if refusal is not None:
            raise CallFailed(refusal.status, refusal.reason, refusal.trailers)
        started_s = perf_counter()
        outcome = Status.OK
        try:
            yield
        except CallFailed as failed:
            outcome = failed.status
            raise
        except Problem:
            outcome = Status.INVALID_ARGUMENT
            raise
        except asyncio.CancelledError:
            outcome = Status.CANCELLED
            raise
        except Exception:
            outcome = Status.INTERNAL
            raise
        finally:
            self._gate.ended(path, metadata, perf_counter() - started_s, outcome)
