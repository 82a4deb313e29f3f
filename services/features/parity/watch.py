"""Watches parity while the service runs: samples, examines, counts, reports."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from flywheel.adapters.logs import logger
from flywheel.contracts.decisions import DecisionLogged
from flywheel.contracts.metrics import (
    PARITY_DECISIONS,
    PARITY_MISMATCHES,
    PARITY_SECONDS,
    PARITY_VALUES,
    PARITY_WORST,
)
from flywheel.contracts.parity import ParityReport
from flywheel.kernel.ports import Record, Unavailable
from flywheel.kernel.tally import Tally, report, total
from services.features.parity.check import ParityCheck
from services.features.parity.sampling import Sample, Sampler

_POLL_S = 0.5
_RECORDS_AT_ONCE = 5_000
_AGAIN_AFTER_S = 5.0
_REST_TIMES = 20.0
"""After a check that took a second nothing is checked for so many: it takes a twentieth of one core at most."""

_log = logger(__name__)

Poll = Callable[[float, int], list[Record]]
Publish = Callable[[ParityReport], None]


@dataclass(frozen=True)
class _Examined:
    """The tally of one sample."""

    tally: Tally
    moments: tuple[datetime, datetime]


class ParityWatch:
    """Compares samples of decisions with the archive and publishes, after each, the report of the last `kept`.

    `latest` is the newest report: one of an earlier run until there is another.
    """

    def __init__(
        self,
        usecase: str,
        sampler: Sampler,
        check: ParityCheck,
        *,
        archived_until_us: Callable[[], int | None],
        publish: Publish,
        kept: timedelta,
        latest: ParityReport | None = None,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.latest = latest
        self._usecase = usecase
        self._sampler = sampler
        self._check = check
        self._archived_until_us = archived_until_us
        self._publish = publish
        self._kept = kept
        self._steady_s = steady_s
        self._rests_until_s = steady_s()
        self._examined: deque[_Examined] = deque()

    def run(self, start: Callable[[], None], poll: Poll, stopping: threading.Event) -> None:
        """Goes on until `stopping`, whatever happens; `start` begins at the end of the decisions' log."""
        started = False
        while not stopping.is_set():
            try:
                if not started:
                    start()
                    started = True
                self.step(poll(_POLL_S, _RECORDS_AT_ONCE))
            except Unavailable as error:
                _log.warning("parity_waits", reason=str(error))
                stopping.wait(_AGAIN_AFTER_S)
            except Exception:
                # Looked after beside everything else: its failure is to be seen, and must stop nothing.
                if not stopping.is_set():
                    _log.exception("parity_check_failed")
                stopping.wait(_AGAIN_AFTER_S)

    def step(self, records: list[Record]) -> None:
        """Takes in records of the decisions' topic, and examines a sample if one is due."""
        self._sampler.offer(records)
        if self._steady_s() < self._rests_until_s:
            return
        sample = self._sampler.due(self._archived_until_us())
        if sample is not None:
            begun_s = self._steady_s()
            try:
                with PARITY_SECONDS.labels(self._usecase).time():
                    self._examine(sample)
            finally:
                self._rests_until_s = self._steady_s() + _REST_TIMES * (self._steady_s() - begun_s)

    def _examine(self, sample: Sample) -> None:
        tally = self._check.examine(sample.decisions)
        self._examined.append(_Examined(tally, _span(sample.decisions)))
        newest = self._examined[-1].moments[1]
        while self._examined[0].moments[1] < newest - self._kept:
            self._examined.popleft()
        found = total(each.tally for each in self._examined)
        self.latest = report(self._usecase, found, [at for each in self._examined for at in each.moments])
        self._count(tally, self.latest)
        _log.info(
            "parity_checked", decisions=tally.decisions, values=tally.values, mismatches=tally.mismatches,
            undecidable=tally.undecidable, skipped=dict(tally.skipped),
        )  # fmt: skip
        self._publish(self.latest)

    def _count(self, tally: Tally, latest: ParityReport) -> None:
        for outcome, number in (("compared", tally.decisions), *tally.skipped.items()):
            PARITY_DECISIONS.labels(self._usecase, outcome).inc(number)
        for outcome, number in (
            ("equal", tally.values - tally.mismatches),
            ("mismatched", tally.mismatches),
            ("stale_equal", tally.stale_values - tally.stale_mismatches),
            ("stale_mismatched", tally.stale_mismatches),
            ("undecidable", tally.undecidable),
        ):
            PARITY_VALUES.labels(self._usecase, outcome).inc(number)
        for mismatches in tally.mismatched.values():
            PARITY_MISMATCHES.labels(self._usecase, mismatches.feature).inc(mismatches.mismatches)
        PARITY_WORST.clear()
        for mismatches in latest.mismatched:
            PARITY_WORST.labels(self._usecase, mismatches.feature).set(mismatches.worst_relative)


def _span(decisions: tuple[DecisionLogged, ...]) -> tuple[datetime, datetime]:
    moments = [logged.decided_at for logged in decisions]
    return min(moments), max(moments)
