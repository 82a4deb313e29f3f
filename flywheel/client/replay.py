"""Sends a person's own events through the same door as everybody's, as fast as it goes or at their recorded pace."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from flywheel.client.ingest_client import IngestClient
from flywheel.client.rows import Row

_BATCH_EVENTS = 500
_SHOWN_REJECTIONS = 5
_REPORT_EVERY_BATCHES = 20
_PACED_S = 0.1


@dataclass
class Summary:
    """What became of a file's rows."""

    accepted: int = 0
    rejected: int = 0
    first_rejections: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    """What would put the first rejections right, each hint once."""

    def reject(self, row: int, reason: str, hints: Iterable[str] = ()) -> None:
        self.rejected += 1
        if len(self.first_rejections) < _SHOWN_REJECTIONS:
            self.first_rejections.append(f"row {row}: {reason}")
            self.hints += [hint for hint in hints if hint not in self.hints]

    def __str__(self) -> str:
        lines = [f"{self.accepted:,} accepted, {self.rejected:,} rejected", *self.first_rejections]
        if self.rejected > len(self.first_rejections):
            lines.append(f"… and {self.rejected - len(self.first_rejections):,} more")
        lines += [f"hint: {hint}" for hint in self.hints]
        return "\n".join(lines)


async def replay(
    rows: Iterable[Row],
    event_name: str,
    ingest: IngestClient,
    *,
    speedup: float | None,
    backfilled: bool,
    report: Callable[[str], None],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Summary:
    """Sends the rows in their order. `speedup` 1 keeps the recorded distances, 60 makes a minute a second, None
    knows no distances. `backfilled` rows are known from their own times on, others from their arrival."""
    summary = Summary()
    batches = _by_size(rows) if speedup is None else _by_time(rows, _PACED_S * speedup)
    began_s = asyncio.get_running_loop().time()
    for number, (offset_s, batch) in enumerate(batches, 1):
        if speedup is not None:
            wait_s = began_s + offset_s / speedup - asyncio.get_running_loop().time()
            if wait_s > 0:
                await sleep(wait_s)
        await _send(batch, event_name, ingest, summary, backfilled=backfilled)
        if number % _REPORT_EVERY_BATCHES == 0:
            report(f"row {batch[-1].number:,}: {summary.accepted:,} accepted, {summary.rejected:,} rejected so far")
    return summary


def aligned(rows: Iterable[Row], present: datetime) -> Iterator[Row]:
    """The rows with their times shifted by one distance, so that the first that has a time happens at `present`."""
    shift: timedelta | None = None
    for row in rows:
        moment = _moment(row.fields.get("event_time"))
        if moment is None:
            yield row
            continue
        shift = present - moment if shift is None else shift
        yield replace(row, fields={**row.fields, "event_time": (moment + shift).isoformat()})


async def _send(batch: list[Row], event_name: str, ingest: IngestClient, summary: Summary, *, backfilled: bool) -> None:
    refused: list[tuple[int, str, tuple[str, ...]]] = [
        (row.number, row.unreadable, ()) for row in batch if row.unreadable
    ]
    readable = [row for row in batch if not row.unreadable]
    if readable:
        outcome = await ingest.send_batch(event_name, [row.fields for row in readable], backfilled=backfilled)
        summary.accepted += outcome.accepted
        refused += [(readable[each.index].number, each.reason, each.hints) for each in outcome.rejections]
    for number, reason, hints in sorted(refused):
        summary.reject(number, reason, hints)


def _by_size(rows: Iterable[Row]) -> Iterator[tuple[float, list[Row]]]:
    source = iter(rows)
    while batch := list(islice(source, _BATCH_EVENTS)):
        yield 0.0, batch


def _by_time(rows: Iterable[Row], span_s: float) -> Iterator[tuple[float, list[Row]]]:
    """Batches of rows that happened within `span_s`, with the seconds from the first row to the batch's last.

    A row whose time cannot be read, or lies before the row ahead of it, goes with that one.
    """
    batch: list[Row] = []
    first_s: float | None = None
    begins_s = offset_s = 0.0
    for row in rows:
        at_s = _seconds(row.fields.get("event_time"))
        if first_s is None:
            first_s = at_s
        row_offset_s = max(offset_s, at_s - first_s) if at_s is not None and first_s is not None else offset_s
        if batch and (row_offset_s - begins_s >= span_s or len(batch) == _BATCH_EVENTS):
            yield offset_s, batch
            batch, begins_s = [], row_offset_s
        batch.append(row)
        offset_s = row_offset_s
    if batch:
        yield offset_s, batch


def _seconds(event_time: Any) -> float | None:
    moment = _moment(event_time)
    return None if moment is None else moment.timestamp()


def _moment(event_time: Any) -> datetime | None:
    """The time, if it is one with a time zone; others are for ingest to refuse."""
    try:
        moment = datetime.fromisoformat(event_time)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else None
