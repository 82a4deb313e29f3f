"""The lake: every accepted event in Parquet, by date and micro-batch, so that a batch written again replaces itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from flywheel.adapters.spark_events import envelope_of
from flywheel.contracts.events import Event
from flywheel.contracts.topics import event_topic

_PATTERN = "event_date=*/batch_id=*/*.parquet"


class Lake:
    """Archived events of one use case below `directory/<usecase>/<event>/event_date=…/batch_id=…`."""

    def __init__(self, directory: Path, usecase: str, events: Sequence[type[Event]]) -> None:
        self._directory = directory.absolute() / usecase
        self._usecase = usecase
        self._events = tuple(events)
        self._rows: dict[str, dict[int, int]] = {event.event_name: _scan(self.path(event)) for event in events}

    def path(self, event: type[Event]) -> Path:
        """The directory of one event."""
        return self._directory / event.event_name

    def holds(self, event: type[Event]) -> bool:
        """Whether any event of that kind is archived."""
        return any(self._rows[event.event_name].values())

    def counts(self) -> dict[str, int]:
        """Archived events by name, duplicates included."""
        return {name: sum(batches.values()) for name, batches in self._rows.items()}

    def write(self, records: DataFrame, batch_id: int) -> None:
        """Archives a micro-batch of `spark_events.read_stream`; one that comes again leaves the lake as it was."""
        for event in self._events:
            counted = Observation()
            _rows(records, event, self._usecase, batch_id).observe(counted, F.count(F.lit(1)).alias("rows")).write.mode(
                "overwrite"
            ).partitionBy("event_date", "batch_id").parquet(str(self.path(event)))
            self._rows[event.event_name][batch_id] = counted.get["rows"]

    def source(self) -> str | None:
        """The id of the stream that fills this lake; None for a new one."""
        marker = self._directory / ".source"
        return marker.read_text() if marker.exists() else None

    def claim(self, source: str) -> str:
        """The id of the stream that fills this lake: `source` if it had none before, which it then keeps."""
        if self.source() is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            (self._directory / ".source").write_text(source)
        return self.source() or source


def _rows(records: DataFrame, event: type[Event], usecase: str, batch_id: int) -> DataFrame:
    parsed = records.where(F.col("topic") == event_topic(usecase, event.event_name).name).select(
        envelope_of(event).alias("envelope"), "partition", "offset"
    )
    return (
        parsed.where(F.col("envelope.event.event_id").isNotNull() & F.col("envelope.event.event_time").isNotNull())
        .select(
            "envelope.event.*",
            "envelope.ingest_time",
            "envelope.request_id",
            F.col("partition").alias("kafka_partition"),
            F.col("offset").alias("kafka_offset"),
            F.to_date("envelope.event.event_time").alias("event_date"),
            F.lit(batch_id).alias("batch_id"),
        )
        # One file for each date: a lake of small files is slow to read.
        .coalesce(1)
    )


def _scan(directory: Path) -> dict[int, int]:
    rows: dict[int, int] = defaultdict(int)
    for file in directory.glob(_PATTERN):
        rows[int(file.parent.name.partition("=")[2])] += pq.read_metadata(file).num_rows
    return rows
