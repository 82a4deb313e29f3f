"""Brings spooled records to where they are sent to, in order, again after a failure, and forgets what arrived."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from flywheel.adapters.logs import logger
from flywheel.adapters.spool_segments import Chunk, Record, SegmentFile

_CHUNK_BYTES = 256 * 1024
_WAIT_S = 0.02
_AGAIN_S = 1.0
_READS_TRIED = 5
_ACKNOWLEDGED, _UNDELIVERED, _DAMAGED = "acknowledged", "undelivered", "damaged"

_log = logger(__name__)


class Sender(Protocol):
    """Whoever takes records on; `DecisionLog` implementations do."""

    @property
    def sending(self) -> int:
        """Records taken whose end is not known yet."""

    def send(self, records: Sequence[Record], ended: Callable[[str | None], None]) -> int:
        """How many were taken, from the first on. `ended`: None acknowledged, `undelivered`, `refused` for good."""


@dataclass
class Segment:
    """What is known of one file. An attempt sends all of it: `sent` and `ends` are of the present one."""

    file: SegmentFile
    inherited: bool = False
    end: int = 0
    """Bytes that are written and accounted for."""
    cursor: int = 0
    """Bytes handed to the sender."""
    count: int = 0
    sent: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    """Ends that were told, over all attempts: an end that comes again is told once."""
    sealed: bool = False
    damaged: bool = False
    """What followed its end is not what was written."""

    @property
    def missing(self) -> int:
        """Records of this process that this attempt can no longer bring: none of those under way counts as missing."""
        under_way = self.sent - self.ends.total()
        acknowledged = max(self.told[_ACKNOWLEDGED], self.ends[_ACKNOWLEDGED] + under_way)
        others = self.told.total() - self.told[_ACKNOWLEDGED]
        return max(0, self.count - acknowledged - others)

    @property
    def is_answered(self) -> bool:
        return self.ends.total() == self.sent

    @property
    def is_done(self) -> bool:
        return self.sealed and self.cursor >= self.end and self.is_answered


class Delivery:
    """The records of all segments on their way. Everything here belongs to one event loop."""

    def __init__(
        self,
        sender: Sender,
        *,
        on_acknowledged: Callable[[], None],
        on_replayed: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._sender = sender
        self._on_acknowledged = on_acknowledged
        self._on_replayed = on_replayed
        self._on_lost = on_lost
        self._segments: list[Segment] = []
        self._behind = False
        self._failed = False
        self._unreadable = 0
        self._wake = asyncio.Event()
        self._removals: set[asyncio.Future[None]] = set()
        self.in_flight = 0
        self.size_bytes = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to be sent or acknowledged."""
        return not (self._behind or self._failed) and all(segment.is_answered for segment in self._segments)

    def opened(self, file: SegmentFile) -> Segment:
        """The account of a new, empty file."""
        segment = Segment(file)
        self._segments.append(segment)
        return segment

    def inherit(self, files: Sequence[SegmentFile]) -> None:
        """Records of a process that is gone; what of them it had sent already is sent again."""
        for file in files:
            self._segments.append(Segment(file, inherited=True, end=file.size, sealed=True))
            self.size_bytes += file.size
        if files:
            _log.warning("decision_spool_replayed", files=len(files), size_bytes=sum(file.size for file in files))
            self._fall_behind()

    def written(self, segment: Segment, records: Sequence[Record], sizes: Sequence[int]) -> None:
        """The records are in the newest segment; they are sent now, unless earlier ones still wait."""
        segment.count += len(records)
        segment.end += sum(sizes)
        self.size_bytes += sum(sizes)
        self.in_flight += len(records)
        if self._behind or self._failed:
            return
        if self._send(segment, records, sizes) < len(records):
            self._fall_behind()

    def seal(self, segment: Segment) -> None:
        """Nothing more will be written to the segment."""
        segment.file.seal()
        segment.sealed = True
        self._forget_if_done(segment)

    async def removed(self) -> None:
        """Waits until all files that are done with are gone."""
        await asyncio.gather(*self._removals)

    async def run(self) -> None:
        """Sends what could not be sent at once, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._behind or self._failed:
                try:
                    await self._catch_up()
                except Exception:
                    # Without resending the spool would fill up and every later decision be unprotected.
                    _log.exception("decision_spool_delivery_failed")
                    await asyncio.sleep(_AGAIN_S)

    async def _catch_up(self) -> None:
        if self._failed:
            await self._rewind()
            return
        segment = next((segment for segment in self._segments if segment.cursor < segment.end), None)
        if segment is None:
            self._behind = False
            return
        chunk = await self._read(segment)
        if chunk is None or self._failed:
            return
        if self._send(segment, chunk.records, chunk.sizes) < len(chunk.records):
            await asyncio.sleep(_WAIT_S)
        elif chunk.damaged:
            await self._give_up(segment)

    async def _rewind(self) -> None:
        if self._sender.sending:
            await asyncio.sleep(_WAIT_S)
            return
        for segment in self._segments:
            segment.cursor = segment.sent = 0
            segment.ends.clear()
        self._failed = False
        self._behind = True
        for segment in tuple(self._segments):
            # Nothing is sent of a file that is damaged from its beginning.
            self._forget_if_done(segment)
        await asyncio.sleep(_AGAIN_S)

    async def _read(self, segment: Segment) -> Chunk | None:
        try:
            chunk = await asyncio.to_thread(segment.file.read, segment.cursor, segment.end, _CHUNK_BYTES)
        except OSError as error:
            self._unreadable += 1
            if self._unreadable < _READS_TRIED:
                await asyncio.sleep(_AGAIN_S)
                return None
            _log.error("decision_spool_unreadable", reason=str(error))
            chunk = Chunk([], [], damaged=True)
        self._unreadable = 0
        return chunk

    def _send(self, segment: Segment, records: Sequence[Record], sizes: Sequence[int]) -> int:
        # Counted before: an acknowledgement may come while the sender still takes them.
        segment.sent += len(records)
        try:
            taken = self._sender.send(records, partial(self._ended, segment))
        except Exception:
            # Nobody can tell how many were taken: all of them are sent again.
            _log.exception("decision_spool_send_failed")
            taken = 0
            self._failed = True
            self._wake.set()
        segment.sent -= len(records) - taken
        segment.cursor += sum(sizes[:taken])
        self._forget_if_done(segment)
        return taken

    def _ended(self, segment: Segment, failure: str | None) -> None:
        end = failure or _ACKNOWLEDGED
        segment.ends[end] += 1
        if end == _UNDELIVERED:
            self._failed = True
            self._wake.set()
            return
        if segment.ends[end] > segment.told[end]:
            segment.told[end] += 1
            self._tell(segment, failure)
        self._forget_if_done(segment)

    def _tell(self, segment: Segment, failure: str | None) -> None:
        if not segment.inherited:
            self.in_flight -= 1
        if failure is not None:
            self._on_lost("inherited" if segment.inherited else failure)
        elif segment.inherited:
            self._on_replayed()
        else:
            self._on_acknowledged()

    async def _give_up(self, segment: Segment) -> None:
        """The rest of the file is not what was written: it is set aside when all before it has arrived."""
        lost = await self._inherited_after(segment) if segment.inherited else segment.missing
        left_bytes = segment.end - segment.cursor
        _log.error("decision_spool_damaged", left_bytes=left_bytes, decisions=lost, inherited=segment.inherited)
        # An attempt after this one ends here as well.
        segment.end = segment.cursor
        self.size_bytes -= left_bytes
        segment.damaged = True
        segment.told[_DAMAGED] += lost
        for _ in range(lost):
            self._tell(segment, _DAMAGED)
        self._forget_if_done(segment)

    async def _inherited_after(self, segment: Segment) -> int:
        try:
            return await asyncio.to_thread(segment.file.frames_after, segment.cursor)
        except OSError:
            # Nobody can tell how many it holds.
            return 1

    def _forget_if_done(self, segment: Segment) -> None:
        # After a failure nothing is forgotten before it was sent again.
        if self._failed or not segment.is_done or segment not in self._segments:
            return
        self._segments.remove(segment)
        self.size_bytes -= segment.end
        # A file system takes its time to give space back.
        done = segment.file.set_aside if segment.damaged else segment.file.remove
        removal = asyncio.get_running_loop().run_in_executor(None, done)
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)

    def _fall_behind(self) -> None:
        self._behind = True
        self._wake.set()
