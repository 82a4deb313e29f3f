"""Fills the online store again from the lake: after it was lost, or for features that were declared later.

The stream stands meanwhile, and the edge waits for it; ingest and serving go on, with values that are stale. The states
are those that the stream would hold at the lake's position in the log, and there the stream goes on afterwards.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from pyspark.sql import DataFrame, Row, SparkSession

from flywheel.adapters.attribute_lake import AttributeLake
from flywheel.adapters.lake_lock import writing
from flywheel.adapters.spark_archive import Lake
from flywheel.adapters.spark_checkpoint import Checkpoint
from flywheel.adapters.spark_contributions import KEY
from flywheel.adapters.spark_events import read_archive
from flywheel.adapters.spark_states import COUNTED, NEWEST, STATE, build_states
from flywheel.adapters.telling import EntityCount, Tell
from flywheel.kernel.erasure import named_in
from flywheel.kernel.plan import FeaturePlan, TileView
from flywheel.kernel.ports import ErasureLog, FeatureWriter, StateWrite, ViewKey
from services.features.positions import events_by_topic, flattened, marks_of

UNDER_WAY = "rebuild"
"""What the store belongs to meanwhile: a stream that is started then refuses to count on top of half a store."""
_STATES_AT_ONCE = 250


class NothingToRebuildFrom(Exception):
    """The archive has not finished anything yet."""


@dataclass(frozen=True)
class Rebuilt:
    """What was written: entities by view, events by view and name, and how long it took."""

    entities: Mapping[str, int]
    events: Mapping[str, int]
    seconds: float

    @property
    def entities_per_s(self) -> float:
        return sum(self.entities.values()) / max(self.seconds, 1e-9)


class Rebuilder:
    """Rebuilds one use case's store."""

    def __init__(
        self,
        plan: FeaturePlan,
        session: SparkSession,
        lake: Lake,
        attributes: AttributeLake,
        writer: FeatureWriter,
        erasures: ErasureLog,
    ) -> None:
        self._plan = plan
        self._session = session
        self._lake = lake
        self._attributes = attributes
        self._writer = writer
        self._erasures = erasures

    def run(self, archive: Checkpoint, tiles: Checkpoint, tell: Tell) -> Rebuilt:
        """The store as of the archive's last finished batch; broken off, it is to be run again.

        Attributes come first, and also while there is no such batch. Raises NothingToRebuildFrom, LoadsUnreadable,
        OtherKey, and Unavailable when the store or the broker does not answer.
        """
        # Nobody is erased meanwhile: what was read of them would be written after they were.
        with writing(self._lake.directory):
            return self._run(archive, tiles, tell)

    def _run(self, archive: Checkpoint, tiles: Checkpoint, tell: Tell) -> Rebuilt:
        started_s = time.monotonic()
        # Before the store is anybody else's: a load that cannot be read stops nobody who counts.
        self._bring_attributes(tell)
        positions = self._positions(archive)
        if not positions:
            raise NothingToRebuildFrom("the archive has not finished a batch yet; there are no windows to rebuild from")
        self._writer.hand_over(UNDER_WAY)
        tiles.begin_anew(positions)
        reached = marks_of(self._plan, flattened(positions))
        events = self._archived()
        entities: dict[str, int] = {}
        counted: Counter[str] = Counter()
        try:
            for view in self._plan.views:
                tell(f"{view.name}: reading the lake")
                entities[view.name] = 0
                if any(event.event_name in events for event in view.events):
                    states = build_states(self._plan, view, events, reached)
                    entities[view.name] = self._fill(view, states, counted, tell)
        finally:
            for frame in events.values():
                frame.unpersist()
        self._writer.recount(counted)
        self._writer.hand_over(None)
        self._writer.absorb(reached, None)
        return Rebuilt(entities, dict(counted), time.monotonic() - started_s)

    def _bring_attributes(self, tell: Tell) -> None:
        with self._attributes.loading():
            for table in self._plan.usecase.attribute_tables:
                self._attributes.publish(table, self._writer, tell)

    def _fill(self, view: TileView, states: DataFrame, counted: Counter[str], tell: Tell) -> int:
        rows, done = states.toLocalIterator(prefetchPartitions=True), EntityCount(view.name, tell)
        while chunk := list(islice(rows, _STATES_AT_ONCE)):
            self._write(view, chunk)
            for row in chunk:
                counted.update(row[COUNTED])
            done.add(len(chunk))
        return done.finish()

    def _write(self, view: TileView, chunk: list[Row]) -> None:
        rows = {ViewKey(view.name, row[KEY]): row for row in chunk}
        keys = list(rows)
        while keys:
            # Whatever is there is replaced; only what the edge writes between these two calls is looked at again.
            held = self._writer.read(keys)
            keys = self._writer.write(
                {
                    key: StateWrite(bytes(rows[key][STATE]), rows[key][NEWEST], StateWrite.ending_of(stored.state))
                    for key, stored in zip(keys, held, strict=True)
                }
            )

    def _archived(self) -> dict[str, DataFrame]:
        erasures, usecase = self._erasures.current(), self._plan.usecase
        return {
            event.event_name: read_archive(
                self._session, str(self._lake.path(event)), event, erasures, named_in(usecase, event)
            ).persist()
            for event in self._plan.events
            if self._lake.holds(event)
        }

    def _positions(self, archive: Checkpoint) -> dict[str, dict[str, int]]:
        """Of the topics that are counted."""
        wanted = events_by_topic(self._plan)
        return {topic: ends for topic, ends in archive.positions().items() if topic in wanted}
