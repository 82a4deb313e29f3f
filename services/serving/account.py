"""What became of the decisions of this process: answered = acknowledged + lost + in flight, at every moment."""

from __future__ import annotations

from flywheel.adapters.decision_spool import Told
from flywheel.contracts.metrics import (
    SERVING_LOG_ACKED,
    SERVING_LOG_LOST,
    SERVING_LOG_REPLAYED,
    SERVING_LOG_UNPROTECTED,
    SERVING_STAGE_SECONDS,
)

_LOST = ("queue_full", "undelivered", "refused", "shutdown", "damaged")
_UNPROTECTED = ("full", "unwritable", "slow")


class Account:
    """The account of one use case; every reason has a series from the start, so that none appears unseen."""

    def __init__(self, usecase: str) -> None:
        self.lost = 0
        """Decisions that were answered and will never be logged."""
        self._acknowledged = SERVING_LOG_ACKED.labels(usecase)
        self._replayed = SERVING_LOG_REPLAYED.labels(usecase)
        self._lost = {reason: SERVING_LOG_LOST.labels(usecase, reason) for reason in _LOST}
        self._unprotected = {reason: SERVING_LOG_UNPROTECTED.labels(usecase, reason) for reason in _UNPROTECTED}
        self._waited = SERVING_STAGE_SECONDS.labels(usecase, "log")

    @property
    def told(self) -> Told:
        """Takes what a decision log tells."""
        return Told(
            acknowledged=self._acknowledged.inc,
            lost=self._lose,
            replayed=self._replayed.inc,
            unprotected=lambda reason, records: self._unprotected[reason].inc(records),
            waited=self._waited.observe,
        )

    def _lose(self, reason: str) -> None:
        self.lost += 1
        self._lost[reason].inc()
