"""What became of the decisions of this process: answered = acknowledged + lost + in flight, at every moment.

What an earlier process answered is not part of it: such records are counted as replayed, or as lost for `inherited`.

Each record says who wrote it, the how manieth it is and how many before it were lost, so that whoever reads them all
can tell without asking whether one is missing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import get_args

import orjson

from flywheel.adapters.decision_spool import Told, Unprotected
from flywheel.contracts.metrics import (
    SERVING_LOG_ACKED,
    SERVING_LOG_LOST,
    SERVING_LOG_REPLAYED,
    SERVING_LOG_UNPROTECTED,
    SERVING_STAGE_SECONDS,
)
from flywheel.kernel.ports import DecisionLog

_LOST = ("queue_full", "undelivered", "refused", "shutdown", "damaged", "inherited")
_UNPROTECTED = get_args(Unprotected)


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
        # What an earlier process answered has another writer's numbers.
        self.lost += reason != "inherited"
        self._lost[reason].inc()


class NumberedLog:
    """A decision log whose records, JSON objects with some fields, are numbered on their way."""

    def __init__(self, log: DecisionLog, writer: str, account: Account) -> None:
        self._log = log
        self._account = account
        self._writer = b',"writer":' + orjson.dumps(writer)
        self._answered = 0

    @property
    def in_flight(self) -> int:
        return self._log.in_flight

    def start(self) -> None:
        """As the log behind it."""
        self._log.start()

    def append_many(self, records: Sequence[tuple[bytes, bytes]]) -> Awaitable[None] | None:
        """As the log behind it."""
        return self._log.append_many([(key, self._numbered(value)) for key, value in records])

    async def close(self, timeout_s: float) -> None:
        """As the log behind it."""
        await self._log.close(timeout_s)

    def _numbered(self, record: bytes) -> bytes:
        self._answered += 1
        return b'%b%b,"sequence":%d,"lost_before":%d}' % (
            record[:-1],
            self._writer,
            self._answered,
            self._account.lost,
        )
