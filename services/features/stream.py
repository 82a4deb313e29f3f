"""A streaming job under way: starts it, watches how far it is, tells when it died."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql.streaming import StreamingQuery

from flywheel.adapters.tracing import UNTRACED, Tracing
from flywheel.contracts.metrics import (
    FEATURES_BACKLOG,
    FEATURES_BATCH_SECONDS,
    FEATURES_LAG_SECONDS,
    FEATURES_LATE,
    FEATURES_UNPARSABLE,
)
from services.features.positions import Positions, flattened
from services.features.progress import ProgressTracker

Sink = Callable[[DataFrame, int], None]


class JobDied(Exception):
    """A streaming job has ended; the process must be started again."""


class StreamJob:
    """One streaming query and its progress."""

    def __init__(self, usecase: str, name: str, tracing: Tracing = UNTRACED) -> None:
        self.name = name
        self.progress = ProgressTracker()
        self._usecase = usecase
        self._tracing = tracing
        self._query: StreamingQuery | None = None
        self._last_batch = -1
        self.finished: Positions = {}
        """Next offset, by topic and partition, of what the last finished batch held."""

    def start(self, rows: DataFrame, sink: Sink, *, output: str, checkpoint: Path, trigger_ms: int) -> None:
        """Runs the sink on each micro-batch from now on."""

        def timed(batch: DataFrame, batch_id: int) -> None:
            seconds = FEATURES_BATCH_SECONDS.labels(self._usecase, self.name)
            with seconds.time(), self._tracing.span(f"{self.name} batch"):
                sink(batch, batch_id)

        # Of its own pool, so that the jobs of one stream do not wait for another's.
        rows.sparkSession.sparkContext.setLocalProperty("spark.scheduler.pool", self.name)
        self._query = (
            rows.writeStream.queryName(self.name)
            .outputMode(output)
            .option("checkpointLocation", str(checkpoint))
            .trigger(processingTime=f"{trigger_ms} milliseconds")
            .foreachBatch(timed)
            .start()
        )

    @property
    def is_ready(self) -> bool:
        """Whether it runs and has been known to have processed everything up to some moment."""
        return bool(self._query and self._query.isActive) and self.progress.visible_until_us is not None

    def observe(self, at_us: int, ends: Positions) -> None:
        """Takes note of the broker's end offsets, asked for no earlier than `at_us`, and of the query's own progress.

        Raises JobDied with the query's reason.
        """
        if self._query is None:
            return
        if not self._query.isActive:
            raise JobDied(f"{self.name}: {self._query.exception() or 'stopped'}")
        self.progress.sampled(at_us, ends)
        report = self._query.lastProgress
        if report is not None:
            self._note(report)
        self._publish()

    def stop(self) -> None:
        """Ends the query between two micro-batches."""
        if self._query is not None:
            self._query.stop()

    def _note(self, report: Any) -> None:
        offsets = end_offsets(report["sources"][0]["endOffset"])
        if offsets is not None:
            self.finished = offsets
            self.progress.processed(offsets)
        if report["batchId"] > self._last_batch + 1 and self._query is not None:
            # Batches ended since the last look: each is counted.
            for earlier in self._query.recentProgress:
                self._count(earlier)
        self._count(report)

    def _count(self, report: Any) -> None:
        if not report["numInputRows"] or report["batchId"] <= self._last_batch:
            return
        self._last_batch = report["batchId"]
        late = sum(int(operator["numRowsDroppedByWatermark"]) for operator in report["stateOperators"])
        FEATURES_LATE.labels(self._usecase).inc(late)
        for observed in (report["observedMetrics"] or {}).values():
            FEATURES_UNPARSABLE.labels(self._usecase).inc(observed["unparsable"] or 0)

    def _publish(self) -> None:
        FEATURES_BACKLOG.labels(self._usecase, self.name).set(self.progress.backlog)
        if self.progress.visible_until_us is not None:
            lag_s = time.time() - self.progress.visible_until_us / 1e6
            FEATURES_LAG_SECONDS.labels(self._usecase, self.name).set(lag_s)


def end_offsets(text: str | None) -> dict[tuple[str, int], int] | None:
    """Positions out of the Kafka source's JSON; None when it says none."""
    found = json.loads(text) if text else None
    return flattened(found) if isinstance(found, dict) else None
