"""Keeps the lane between the tiles and the end of the log: never behind the one, as close to the other as it can."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from flywheel.adapters.logs import logger
from flywheel.adapters.tracing import UNTRACED, SpanKind, Tracing
from flywheel.contracts.metrics import EDGE_LAG_SECONDS
from flywheel.kernel.plan import FeaturePlan
from flywheel.kernel.ports import FeatureWriter, Lane, Record, StoreProgress, Unavailable
from services.features.edge.lane import EdgeLane
from services.features.edge.share import Alone, Peers, Share, Told
from services.features.edge.sweep import Sweep
from services.features.positions import Positions, positions_of
from services.features.progress import ProgressTracker

NEAR_EVENTS = 5_000
"""Further behind than this, the tiles are the quicker way to catch up, as long as they move."""
_STALLED_S = 10.0
_POLL_S = 0.05
_RECORDS_AT_ONCE = 500
_log = logger(__name__)
_ALL = Share()
_NOBODY = Alone()


class Follower(Protocol):
    """Records of the log from given positions on."""

    def start(self, positions: Positions) -> None: ...

    def poll(self, timeout_s: float, limit: int) -> list[Record]: ...


class Ends(Protocol):
    """Where the log ends."""

    def ends(self) -> Positions: ...


class Pursuit:
    """Moves the lane on. Every call may raise Unavailable; after that `restart` finds the way again."""

    def __init__(
        self,
        plan: FeaturePlan,
        lane: EdgeLane,
        writer: FeatureWriter,
        follower: Follower,
        offsets: Ends,
        *,
        share: Share = _ALL,
        peers: Peers = _NOBODY,
        tracing: Tracing = UNTRACED,
        steady_s: Callable[[], float] = time.monotonic,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._plan = plan
        self._lane = lane
        self._writer = writer
        self._follower = follower
        self._offsets = offsets
        self._share = share
        self._peers = peers
        self._tracing = tracing
        self._steady_s = steady_s
        self._wall_us = wall_us
        self._progress = ProgressTracker()
        self._positions: dict[tuple[str, int], int] = {}
        """Up to where its own partitions are visible."""
        self._elsewhere: dict[tuple[str, int], int] = {}
        """The same of the others' partitions, as they said."""
        self._hears = True
        self._source = ""
        self._heard_from_us = 0
        """What others said before is about a store that is no more."""
        self._tiles: Positions = {}
        self._marks: Mapping[int, int] = {}
        self._moved_s = steady_s()
        self._following = False
        self._resumes = False
        self._sweep = Sweep(plan.usecase.name, lane, writer, steady_s)

    def readiness(self) -> tuple[bool, str]:
        """Whether the lane can do its work, and a sentence that says so."""
        return self._following, "events are visible" if self._following else "waiting for the tiles to come near"

    def restart(self) -> None:
        """What was polled may not have been written: the log is read again from where writing was known to be."""
        self._following = False
        self._resumes = bool(self._positions)

    def step(self) -> bool:
        """Waits for records, a moment at most, and makes them visible; False while the tiles are quicker."""
        if not self._following:
            return False
        records = self._follower.poll(_POLL_S, _RECORDS_AT_ONCE)
        if records:
            began_us = self._wall_us()
            self._lane.take(records)
            self._trace(records, began_us)
            for record in records:
                self._positions[record.topic, record.partition] = record.offset + 1
            self._progress.processed(self._visible())
        return True

    def _visible(self) -> Positions:
        return {**self._elsewhere, **self._positions}

    def _trace(self, records: Sequence[Record], began_us: int) -> None:
        if not self._tracing.on:
            return
        ended_us = self._wall_us()
        for record in records:
            if record.trace:
                self._tracing.tell(
                    "make visible",
                    record.trace,
                    began_us * 1000,
                    ended_us * 1000,
                    {
                        "messaging.system": "kafka",
                        "messaging.destination.name": record.topic,
                        "messaging.destination.partition.id": str(record.partition),
                        "messaging.kafka.offset": record.offset,
                    },
                    {},
                    kind=SpanKind.CONSUMER,
                )

    def observe(self) -> None:
        """Tells decisions how far the edges are, clears off them what the tiles hold, and chooses what to do next."""
        at_us = self._wall_us()
        ends = self._offsets.ends()
        self._follow_tiles()
        self._lane.tidy(self._marks)
        # Before it has come to the end once, it may not have read of every partition.
        self._sweep.step(caught_up=self._following and self._progress.visible_until_us is not None)
        if self._following:
            self._exchange(ends)
            self._progress.sampled(at_us, ends)
            self._report()
        elif self._is_time(ends):
            self._begin()

    def _begin(self) -> None:
        if not self._resumes:
            self._positions = self._share.part(self._tiles)
            self._lane.begin(self._marks)
        self._source = self._writer.source() or ""
        self._elsewhere = {}
        self._follower.start(self._positions)
        self._progress = ProgressTracker()
        self._progress.processed(self._visible())
        self._following = True

    def _exchange(self, ends: Positions) -> None:
        """Lanes tell each other how far they are: a decision's entity may have events in the partitions of all."""
        if self._share.of == 1:
            return
        now_us = self._wall_us()
        mine = {
            place: Told(offset, self._lane.newest_of(place), self._source, now_us)
            for place, offset in self._positions.items()
        }
        try:
            self._peers.tell(mine)
            heard = self._peers.hear(list(self._share.rest(ends)))
        except Unavailable as error:
            # What others said before stays true. Its own partitions it makes visible all the same.
            if self._hears:
                _log.warning("edge_hears_no_others", reason=str(error))
            self._hears = False
            return
        self._hears = True
        told = {
            place: each
            for place, each in heard.items()
            if each.source == self._source and each.at_us >= self._heard_from_us
        }
        self._lane.hear({place: each.newest_us for place, each in told.items() if each.newest_us is not None})
        self._elsewhere = {place: each.offset for place, each in told.items()}
        self._progress.processed(self._visible())

    def _follow_tiles(self) -> None:
        self._marks = self._writer.absorbed()
        tiles = positions_of(self._plan, self._marks)
        mine = self._share.part(tiles)
        overtaken = any(offset > self._positions.get(partition, 0) for partition, offset in mine.items())
        # The store was emptied or filled again: what the edges were cleared of may be in no state any more.
        behind = any(tiles.get(partition, -1) < offset for partition, offset in self._tiles.items())
        if overtaken or behind:
            self._following = self._resumes = False
        if behind:
            self._heard_from_us = self._wall_us()
        if tiles != self._tiles:
            self._tiles, self._moved_s = tiles, self._steady_s()

    def _is_time(self, ends: Positions) -> bool:
        if not self._tiles:
            # Nobody has filled the store yet.
            return False
        if self._resumes:
            return True
        mine = self._share.part(ends)
        behind = sum(max(end - self._tiles.get(partition, 0), 0) for partition, end in mine.items())
        return behind <= NEAR_EVENTS or self._steady_s() - self._moved_s > _STALLED_S

    def _report(self) -> None:
        until_us = self._progress.visible_until_us
        if until_us is not None:
            now_us = self._wall_us()
            self._writer.report(Lane.EDGE, StoreProgress(until_us, now_us, self._lane.newest_us))
            EDGE_LAG_SECONDS.labels(self._plan.usecase.name).set((now_us - until_us) / 1e6)
