"""A decision log that has each record on this machine's disk before the decision is answered.

Records go to a bounded spool of files first and from there to the log behind it; what that has acknowledged is
forgotten, and what a process that died had not sent is sent by the next one. A spool that is full or cannot be
written never keeps an answer: such records go to the log behind directly, and are told as unprotected.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from flywheel.adapters.logs import logger
from flywheel.adapters.spool_delivery import Delivery, Segment, Sender
from flywheel.adapters.spool_segments import Record, Slot, framed
from flywheel.kernel.ports import DecisionLog

Promise = Literal["process", "disk"]
"""What a spooled record survives: the death of this process, or that of the machine too."""
Unprotected = Literal["full", "unwritable", "slow"]
"""Why a record was answered without being on disk."""

_SEGMENT_BYTES = 4 * 1024 * 1024
_EARLY_BYTES = 1024 * 1024
_GATHERED_BYTES = 8 * 1024 * 1024
_RETRY_S = 1.0
# One may have waited for the processor only.
_SLOW_WRITES = 3
_ADOPT_EVERY_S = 60.0
_CLOSING_S = 0.01

_log = logger(__name__)


class Behind(Sender, DecisionLog, Protocol):
    """The log behind the spool."""


@dataclass(frozen=True)
class Told:
    """Who is told what becomes of records; `unprotected` and `waited` with how many and how long."""

    acknowledged: Callable[[], None]
    lost: Callable[[str], None]
    """Why; `inherited` is a record of an earlier process, which the account of this one does not have."""
    replayed: Callable[[], None]
    """A record of an earlier process was acknowledged."""
    unprotected: Callable[[Unprotected, int], None]
    """Answered without being on disk."""
    waited: Callable[[float], None]
    """Seconds that a cohort's answers waited for the spool."""


class _Pause(NamedTuple):
    """No record is written until then."""

    until_s: float
    reason: Unprotected


class SpooledDecisionLog:
    """The spool below `directory`, for one event loop, in front of another log.

    With the promise `process` a cohort is written at once: what is in the kernel survives kill -9. With `disk` all
    that is handed over while the disk works shares the next write and fdatasync; an answer waits for that at most
    `patience_s`.
    """

    def __init__(
        self,
        behind: Behind,
        directory: Path,
        told: Told,
        *,
        promise: Promise,
        capacity_bytes: int,
        patience_s: float,
        steady_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._behind = behind
        self._directory = directory
        self._told = told
        self._to_disk = promise == "disk"
        self._capacity_bytes = capacity_bytes
        self._patience_s = patience_s
        self._steady_s = steady_s
        self._delivery = Delivery(
            behind, on_acknowledged=told.acknowledged, on_replayed=told.replayed, on_lost=told.lost
        )
        self._slot: Slot | None = None
        self._segment: Segment | None = None
        self._paused: _Pause | None = None
        self._slow = 0
        self._trouble: Unprotected | None = None
        self._group: _Group | None = None
        self._gathered = 0
        self._writing: asyncio.Task[None] | None = None
        self._writing_since_s = 0.0
        self._writer = ThreadPoolExecutor(1, "decision-spool")
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def in_flight(self) -> int:
        """Records of this process that are neither acknowledged nor lost."""
        return self._behind.in_flight + self._delivery.in_flight + self._gathered

    @property
    def size_bytes(self) -> int:
        """What lies on disk."""
        return self._delivery.size_bytes

    def start(self) -> None:
        """Takes records from now on, and those that an earlier process left."""
        self._behind.start()
        try:
            self._claim()
        except OSError as error:
            self._unwritable(error)
        self._tasks = [asyncio.create_task(work) for work in (self._delivery.run(), self._adopt())]

    def append_many(self, records: Sequence[Record]) -> Awaitable[None] | None:
        """Hands the records over; the answers may leave when what is returned is done."""
        started_s = self._steady_s()
        frames = framed(records)
        size = sum(map(len, frames))
        if (reason := self._obstacle(started_s, size)) is not None:
            self._pass_by(records, reason)
            return None
        if self._to_disk:
            return self._gather(records, frames, started_s)
        try:
            self._keep(records, frames)
        except OSError as error:
            self._unwritable(error)
            self._pass_by(records, "unwritable")
            return None
        spent_s = self._steady_s() - started_s
        self._slow = self._slow + 1 if spent_s > self._patience_s else 0
        if self._slow >= _SLOW_WRITES:
            # The kernel holds writers back when its disk is behind: better none for a while than one after another.
            self._slow = 0
            self._pause("slow", f"a write took {spent_s * 1000:.1f} ms")
        self._told.waited(spent_s)
        return None

    async def close(self, timeout_s: float) -> None:
        """Waits up to `timeout_s` for what is under way; what is spooled stays for the next process."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while (self._writing or not self._delivery.is_done) and loop.time() < until:
            await asyncio.sleep(_CLOSING_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        hangs = self._writing is not None
        if self._writing is not None:
            self._leave_writing(self._writing)
        elif self._segment is not None:
            self._delivery.seal(self._segment)
        await self._delivery.removed()
        await self._behind.close(max(0.0, until - loop.time()))
        if self._slot is not None:
            # After a write that hangs: until it has ended, nobody else may have the place.
            self._writer.submit(self._slot.release)
        self._writer.shutdown(wait=not hangs)
        if self._delivery.in_flight:
            _log.warning("decisions_kept", decisions=self._delivery.in_flight, size_bytes=self.size_bytes)

    def _leave_writing(self, writing: asyncio.Task[None]) -> None:
        _log.error("decision_spool_hangs", decisions=self._gathered, directory=str(self._directory))
        writing.cancel()
        if self._segment is not None:
            # Its thread may still write to the file, which is the next process's.
            self._writer.submit(self._segment.file.seal)
        if (group := self._group) is not None:
            self._group = None
            self._gathered -= len(group.records)
            self._behind.append_many(group.records)
            group.release()

    def _obstacle(self, now_s: float, size: int) -> Unprotected | None:
        if self._paused is not None and now_s < self._paused.until_s:
            return self._paused.reason
        if self._delivery.size_bytes + size > self._capacity_bytes:
            self._troubled("full", f"{self._delivery.size_bytes} bytes wait already")
            return "full"
        return None

    def _pass_by(self, records: Sequence[Record], reason: Unprotected) -> None:
        self._told.unprotected(reason, len(records))
        self._behind.append_many(records)

    def _keep(self, records: Sequence[Record], frames: Sequence[bytes]) -> None:
        segment = self._open_segment()
        segment.file.write(frames, to_disk=False)
        self._kept(segment, records, frames)

    def _kept(self, segment: Segment, records: Sequence[Record], frames: Sequence[bytes]) -> None:
        self._recover()
        self._delivery.written(segment, records, [len(frame) for frame in frames])

    def _open_segment(self) -> Segment:
        """The segment to write to. Raises OSError."""
        segment = self._segment
        if segment is not None:
            idle = segment.end >= _EARLY_BYTES and segment.is_answered
            if segment.end < _SEGMENT_BYTES and not idle and not segment.damaged:
                return segment
            self._segment = None
            self._delivery.seal(segment)
        slot = self._slot or self._claim()
        self._segment = self._delivery.opened(slot.new())
        return self._segment

    def _claim(self) -> Slot:
        self._slot = slot = Slot.claim(self._directory)
        self._delivery.inherit(slot.found())
        self._delivery.inherit(slot.adopt())
        return slot

    async def _adopt(self) -> None:
        while True:
            await asyncio.sleep(_ADOPT_EVERY_S)
            if self._slot is not None:
                try:
                    self._delivery.inherit(self._slot.adopt())
                except OSError as error:
                    _log.warning("decision_spool_not_adopted", reason=str(error))

    def _gather(self, records: Sequence[Record], frames: Sequence[bytes], now_s: float) -> Awaitable[None] | None:
        group = self._group = self._group or _Group(now_s)
        if group.size_bytes > _GATHERED_BYTES:
            self._pass_by(records, "slow")
            return None
        group.add(records, frames)
        self._gathered += len(records)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_groups())
        elif now_s - self._writing_since_s > self._patience_s:
            # The disk hangs: the record will be written, but no answer waits in a queue that does not move.
            self._told.unprotected("slow", len(records))
            return None
        if group.patience is None:
            group.patience = asyncio.get_running_loop().call_later(self._patience_s, self._lose_patience, group)
        group.waiting += len(records)
        # One caller who goes must not take the others' future along.
        return asyncio.shield(group.done)

    def _lose_patience(self, group: _Group) -> None:
        self._told.unprotected("slow", group.waiting)
        group.release()

    async def _write_groups(self) -> None:
        try:
            while (group := self._group) is not None:
                self._group = None
                self._writing_since_s = self._steady_s()
                try:
                    await self._write(group)
                except Exception:
                    # The groups behind this one would wait for ever.
                    _log.exception("decision_spool_write_failed", decisions=len(group.records))
                finally:
                    self._gathered -= len(group.records)
                    group.release()
                self._told.waited(self._steady_s() - group.since_s)
        finally:
            self._writing = None

    async def _write(self, group: _Group) -> None:
        loop = asyncio.get_running_loop()
        try:
            segment = self._open_segment()
            await loop.run_in_executor(self._writer, partial(segment.file.write, group.frames, to_disk=True))
        except Exception as error:
            self._unwritable(error)
            self._pass_by(group.records, "unwritable")
            if not isinstance(error, OSError):
                raise
        else:
            self._kept(segment, group.records, group.frames)

    def _unwritable(self, error: Exception) -> None:
        if self._segment is not None:
            # Half a frame may be at its end; nothing may follow that.
            self._delivery.seal(self._segment)
            self._segment = None
        self._pause("unwritable", str(error))

    def _pause(self, trouble: Unprotected, reason: str) -> None:
        self._paused = _Pause(self._steady_s() + _RETRY_S, trouble)
        self._troubled(trouble, reason)

    def _troubled(self, trouble: Unprotected, reason: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            _log.error("decision_spool_trouble", trouble=trouble, reason=reason, directory=str(self._directory))

    def _recover(self) -> None:
        """A write succeeded: there is nothing to wait for."""
        if self._trouble:
            _log.info("decision_spool_well")
        self._paused = self._trouble = None


class _Group:
    """Records that share one write."""

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.records: list[Record] = []
        self.frames: list[bytes] = []
        self.size_bytes = 0
        self.waiting = 0
        self.patience: asyncio.TimerHandle | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def add(self, records: Sequence[Record], frames: Sequence[bytes]) -> None:
        self.records.extend(records)
        self.frames.extend(frames)
        self.size_bytes += sum(map(len, frames))

    def release(self) -> None:
        """Nobody waits any longer."""
        if self.patience is not None:
            self.patience.cancel()
        if not self.done.done():
            self.done.set_result(None)
