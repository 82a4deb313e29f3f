"""Loads the world's past through ingest, as fast as ingest takes it."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence

from flywheel.client.deliveries import Deliveries, Delivery
from flywheel.client.ledger import Ledger
from flywheel.client.sender import Sender
from flywheel.kernel.durations import HOUR_US

BATCH_EVENTS = 1_000
BATCH_SPAN_US = 6 * HOUR_US
"""Within a batch one kind of event is sent after the other, so it must not span more than lateness forgives."""
_REPORT_EVERY_S = 2.0


async def load_history(
    deliveries: Deliveries,
    days: int,
    sender: Sender,
    ledger: Ledger,
    *,
    report: Callable[[str], None],
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Sends all days before day `days` as backfills from where the ledger stands; nothing if they are all sent."""
    progress = _Progress(days, ledger, report, monotonic)
    for number in range(ledger.day, days):
        planned, day = deliveries.of_day(number)
        ledger.reveal(day)
        while ledger.index < len(planned):
            batch = _batch(planned, ledger.index)
            sent = await sender.send(batch, backfilled=True)
            ledger.advance(number, ledger.index + len(batch), batch[-1].at_us)
            progress.show(sent, number + ledger.index / len(planned))
        ledger.advance(number + 1, 0, ledger.event_time_us)
    progress.finish()


def _batch(planned: Sequence[Delivery], start: int) -> Sequence[Delivery]:
    end_us = planned[start].at_us + BATCH_SPAN_US
    limit = bisect_right(planned, end_us, start, key=lambda delivery: delivery.at_us)
    return planned[start : min(limit, start + BATCH_EVENTS)]


class _Progress:
    def __init__(
        self, days: int, ledger: Ledger, report: Callable[[str], None], monotonic: Callable[[], float]
    ) -> None:
        self._days = days
        self._report = report
        self._monotonic = monotonic
        self._began_s = self._shown_s = monotonic()
        self._began_at = float(ledger.day)
        self._sent = 0

    def show(self, sent: int, days_done: float) -> None:
        self._sent += sent
        now_s = self._monotonic()
        if now_s - self._shown_s < _REPORT_EVERY_S:
            return
        self._shown_s = now_s
        took_s = now_s - self._began_s
        left_s = took_s / max(days_done - self._began_at, 1e-9) * (self._days - days_done)
        self._report(
            f"history {days_done / self._days:4.0%}  day {int(days_done) + 1} of {self._days}  "
            f"{self._sent:,} events  {self._sent / took_s:,.0f}/s  about {left_s:.0f} s left"
        )

    def finish(self) -> None:
        took_s = self._monotonic() - self._began_s
        if not self._sent:
            self._report(f"history 100%  all {self._days} days were loaded before")
            return
        self._report(
            f"history 100%  {self._days} days  {self._sent:,} events in {took_s:.1f} s  "
            f"({self._sent / max(took_s, 1e-9):,.0f}/s)"
        )
