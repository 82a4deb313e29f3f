"""A feature reader behind a circuit breaker: a store that hangs costs a few requests, not every one."""

from __future__ import annotations

from collections.abc import Callable

from flywheel.adapters.loop_turns import LoopTurns
from flywheel.kernel.breaker import CircuitBreaker
from flywheel.kernel.ports import Answer, FeatureReader, PartlyUnavailable, Question, Unavailable

_FAILURES_TO_OPEN = 3
_FAILING_OVER_S = 0.1
_RETRY_AFTER_S = 0.1


class GuardedReader:
    """The reader, refusing at once while the store does not answer; it asks again ten times a second.

    A timeout shorter than `patience_s` proves nothing about the store: an impatient caller opens no breaker.
    `on_change` hears when the breaker opens (True) and closes (False). Those who share a round trip go on one after the
    other, a turn of the event loop each: new requests are read, and refused, between them.
    """

    def __init__(
        self,
        reader: FeatureReader,
        *,
        patience_s: float,
        steady_s: Callable[[], float],
        on_change: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._reader = reader
        self._patience_s = patience_s
        self._steady_s = steady_s
        self._on_change = on_change
        self._turns = LoopTurns()
        self._breaker = CircuitBreaker(_FAILURES_TO_OPEN, _FAILING_OVER_S, _RETRY_AFTER_S)

    @property
    def is_open(self) -> bool:
        return self._breaker.is_open

    async def read(self, question: Question, timeout_s: float) -> Answer:
        """As the reader behind it; Unavailable at once while the breaker is open."""
        if not self._breaker.admits(self._steady_s()):
            raise Unavailable("the feature store has stopped answering")
        was_open = self._breaker.is_open
        try:
            answer = await self._reader.read(question, timeout_s)
        except PartlyUnavailable:
            # Whoever asks for what is there gets it.
            self._breaker.succeeded()
            self._tell(was_open)
            await self._turns.mine()
            raise
        except Unavailable:
            if timeout_s >= self._patience_s:
                self._breaker.failed(self._steady_s())
            self._tell(was_open)
            await self._turns.mine()
            raise
        self._breaker.succeeded()
        self._tell(was_open)
        await self._turns.mine()
        return answer

    def _tell(self, was_open: bool) -> None:
        if self._breaker.is_open is not was_open:
            self._on_change(self._breaker.is_open)

    async def close(self) -> None:
        """Closes the reader."""
        await self._reader.close()
