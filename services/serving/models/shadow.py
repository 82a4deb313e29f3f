"""Runs the shadow: scores what was decided with a model that answers nobody, after the answer and beside it.

What waits is bounded, and dropped first: the shadow has a share of one core and not more, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from flywheel.adapters.logs import logger
from flywheel.contracts.events import from_us
from flywheel.contracts.metrics import SERVING_SHADOW
from flywheel.contracts.shadows import ShadowScored
from flywheel.kernel.decision import Decided
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.lineup import Lineup, LoadedModel
from flywheel.kernel.policy import cheapest
from flywheel.kernel.ports import DecisionLog

_AT_ONCE = 32
_CORE_SHARE = 0.2
"""Of its time the thread works this part and sleeps the rest."""

_Offered = tuple[LoadedModel, Decided]
_log = logger(__name__)


class Shadow:
    """The shadow of one use case. `offer` and `close` are called on one event loop."""

    def __init__(
        self,
        usecase: UseCase,
        lineup: Callable[[], Lineup],
        open_log: Callable[[], DecisionLog],
        *,
        capacity: int,
        on_failed: Callable[[str, str], None],
        on_scored: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._usecase = usecase
        self._lineup = lineup
        self._open_log = open_log
        self._capacity = capacity
        self._on_failed = on_failed
        self._on_scored = on_scored
        self._waiting: deque[_Offered] = deque()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._scored = SERVING_SHADOW.labels(usecase.name, "scored")
        self._dropped = SERVING_SHADOW.labels(usecase.name, "dropped")
        self._failed = SERVING_SHADOW.labels(usecase.name, "failed")
        self._log: DecisionLog | None = None
        self._thread: threading.Thread | None = None

    def offer(self, decisions: Sequence[Decided]) -> None:
        """Decisions that are being answered; those on which a model had its say are scored, as far as there is room."""
        model = self._lineup().shadow
        if model is None:
            return
        if self._thread is None:
            self._start()
        for decision in decisions:
            if not decision.step.is_by_model:
                continue
            if len(self._waiting) >= self._capacity:
                self._dropped.inc()
            else:
                self._waiting.append((model, decision))
        self._wake.set()

    async def close(self, timeout_s: float) -> None:
        """What waits is dropped; what was scored is logged within the time."""
        until_s = time.perf_counter() + timeout_s
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, timeout_s)
            # What the thread handed over last.
            await asyncio.sleep(0)
        self._dropped.inc(len(self._waiting))
        if self._log is not None:
            await self._log.close(max(0.0, until_s - time.perf_counter()))

    def _start(self) -> None:
        self._log = self._open_log()
        self._log.start()
        loop, append_many = asyncio.get_running_loop(), self._log.append_many

        def emit(records: Sequence[tuple[bytes, bytes]]) -> None:
            loop.call_soon_threadsafe(append_many, records)

        self._thread = threading.Thread(target=self._run, args=(emit,), name="shadow", daemon=True)
        self._thread.start()

    def _run(self, emit: Callable[[Sequence[tuple[bytes, bytes]]], None]) -> None:
        while not self._stopping.is_set():
            self._wake.wait()
            self._wake.clear()
            while self._waiting and not self._stopping.is_set():
                started_s = time.perf_counter()
                emit(self._records(self._next()))
                self._stopping.wait((time.perf_counter() - started_s) * (1 / _CORE_SHARE - 1))

    def _next(self) -> tuple[LoadedModel, list[Decided]]:
        """The oldest that wait for one and the same model."""
        model, decision = self._waiting.popleft()
        found = [decision]
        while self._waiting and len(found) < _AT_ONCE and self._waiting[0][0] is model:
            found.append(self._waiting.popleft()[1])
        return model, found

    def _records(self, offered: tuple[LoadedModel, list[Decided]]) -> list[tuple[bytes, bytes]]:
        model, decisions = offered
        try:
            scores = model.scorer.score(np.concatenate([decision.model_row for decision in decisions]))
        except Exception as error:
            # Engines raise errors of their own kinds, and nobody's answer depends on this one.
            self._fail(model, len(decisions), f"{type(error).__name__}: {error}")
            return []
        sound = (scores >= 0) & (scores <= 1)
        if not sound.all():
            self._fail(model, int((~sound).sum()), "a score is no probability")
        if sound.any():
            self._on_scored(model.version)
        self._scored.inc(int(sound.sum()))
        return [
            (decision.decision_id.encode(), self._message(model, decision, float(score)).to_bytes())
            for decision, score, fit in zip(decisions, scores, sound, strict=True)
            if fit
        ]

    def _fail(self, model: LoadedModel, decisions: int, reason: str) -> None:
        self._failed.inc(decisions)
        self._on_failed(model.version, reason)

    def _message(self, model: LoadedModel, decision: Decided, score: float) -> ShadowScored:
        return ShadowScored(
            decision_id=decision.decision_id,
            usecase=decision.usecase,
            decided_at=from_us(decision.decided_at_us),
            version=model.version,
            score=score,
            action=cheapest(self._usecase.costs, score, decision.value),
            served_version=decision.model_version,
            served_score=decision.score,
            served_action=decision.action,
        )
