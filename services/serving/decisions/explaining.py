"""Explains decisions on request: beside the event loop, within a time and a share of the processor of their own."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from flywheel.adapters.logs import logger
from flywheel.contracts.metrics import SERVING_EXPLANATION_SECONDS, SERVING_EXPLANATIONS
from flywheel.contracts.proto.decision_pb2 import Contribution, DecideResponse
from flywheel.kernel.attribution import Attribution, Explaining, NotExplainable
from flywheel.kernel.decision import Decided
from flywheel.kernel.declaration import UseCase

_PENDING = 8
_SCORE_TOLERANCE = 1e-4

SHARE = 0.25
"""Of one core, on average: explanations are asked for a decision at a time, and must never slow all others down."""

_log = logger(__name__)


class Explainer:
    """The explanations of one use case's decisions, for one event loop."""

    def __init__(self, usecase: UseCase, *, steady_s: Callable[[], float] = time.perf_counter) -> None:
        self._usecase = usecase
        self._steady_s = steady_s
        self._worker = ThreadPoolExecutor(1, "explaining")
        self._pending = 0
        self._credit_s = SHARE
        self._credited_at_s = steady_s()
        self._seconds = SERVING_EXPLANATION_SECONDS.labels(usecase.name)

    async def explain(self, decision: Decided, top: int, deadline_s: float = math.inf) -> DecideResponse:
        """The part of the answer that has the `top` largest contributions to the score, or says why there are none.

        It is there by the deadline, which is on the steady clock.
        """
        try:
            attribution = await self._attributed(decision, deadline_s)
        except _Dropped as dropped:
            return self._told(DecideResponse(unexplained=dropped.reason))
        return self._told(self._rendered(attribution, top))

    async def _attributed(self, decision: Decided, deadline_s: float) -> Attribution:
        model = decision.case.model
        if not decision.step.is_by_model or model is None:
            raise _Dropped("no_model")
        scorer = model.scorer
        if not isinstance(scorer, Explaining):
            raise _Dropped("unsupported_model")
        left_s = min(self._usecase.budget.explain_ms / 1000, deadline_s - self._steady_s())
        if left_s <= 0:
            raise _Dropped("no_time")
        if self._pending >= _PENDING or not self._has_credit():
            raise _Dropped("overloaded")
        row = decision.model_row[0].copy()
        until_s = self._steady_s() + left_s
        running = asyncio.get_running_loop().run_in_executor(self._worker, self._timed, scorer, row, until_s)
        self._pending += 1
        running.add_done_callback(self._ended)
        try:
            # Nobody can stop a thread: its place is free when it has ended.
            attribution, _ = await asyncio.wait_for(asyncio.shield(running), left_s)
        except TimeoutError as error:
            raise _Dropped("no_time") from error
        except NotExplainable as error:
            raise _Dropped("unsupported_model") from error
        except _Dropped:
            raise
        except Exception as error:
            # Whatever it is, the decision stands and is answered.
            _log.exception("explanation_failed", version=model.version)
            raise _Dropped("failed") from error
        if not abs(attribution.score - decision.score) <= _SCORE_TOLERANCE:
            _log.error("explanation_wrong", version=model.version, score=decision.score, explained=attribution.score)
            raise _Dropped("failed")
        return attribution

    def _timed(self, scorer: Explaining, row: NDArray[np.float32], until_s: float) -> tuple[Attribution, float]:
        started_s = self._steady_s()
        if started_s > until_s:
            raise _Dropped("no_time")
        attribution = scorer.explain(row)
        return attribution, self._steady_s() - started_s

    def _ended(self, running: asyncio.Future[tuple[Attribution, float]]) -> None:
        self._pending -= 1
        if not running.cancelled() and running.exception() is None:
            _, spent_s = running.result()
            self._credit_s -= spent_s
            self._seconds.observe(spent_s)

    def _has_credit(self) -> bool:
        now_s = self._steady_s()
        self._credit_s = min(SHARE, self._credit_s + SHARE * (now_s - self._credited_at_s))
        self._credited_at_s = now_s
        return self._credit_s > 0

    def _rendered(self, attribution: Attribution, top: int) -> DecideResponse:
        parts = attribution.contributions
        largest = np.argsort(-np.abs(parts), kind="stable")[:top]
        names = self._usecase.feature_names
        return DecideResponse(
            contribution_base=attribution.base,
            contributions=[Contribution(feature=names[place], value=float(parts[place])) for place in largest],
        )

    def _told(self, explanation: DecideResponse) -> DecideResponse:
        SERVING_EXPLANATIONS.labels(self._usecase.name, explanation.unexplained or "explained").inc()
        return explanation


class _Dropped(Exception):
    """There will be no explanation."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
