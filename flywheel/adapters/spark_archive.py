"""The lake: every accepted event in Parquet, by date and micro-batch, so that a batch written again replaces itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from flywheel.adapters.lake_folder import StreamMarker, rows_by_batch
from flywheel.adapters.spark_erasures import without_erased
from flywheel.adapters.spark_events import envelope_of, is_event
from flywheel.contracts.events import Event
from flywheel.contracts.topics import event_topic
from flywheel.kernel.dead_letters import DeadLetter, cut, examine
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.erasure import Erasures, named_in

_EXAMINED_BYTES = 65_536
"""Of a record that is no event; an accepted one is never longer."""


@dataclass(frozen=True)
class Written:
    """What became of a micro-batch's records: archived, no event at all, or of somebody erased."""

    archived: int = 0
    unreadable: int = 0
    erased: int = 0


class Lake:
    """Archived events of one use case below `directory/<usecase>/<event>/event_date=…/batch_id=…`."""

    def __init__(self, directory: Path, usecase: UseCase) -> None:
        self.directory = directory.absolute() / usecase.name
        self.marker = StreamMarker(self.directory)
        self._usecase = usecase
        self._rows: dict[str, dict[int, int]] = {}
        self.recount()

    def path(self, event: type[Event]) -> Path:
        """The directory of one event."""
        return self.directory / event.event_name

    def holds(self, event: type[Event]) -> bool:
        """Whether any event of that kind is archived."""
        return any(self._rows[event.event_name].values())

    def counts(self) -> dict[str, int]:
        """Archived events by name, duplicates included."""
        return {name: sum(batches.values()) for name, batches in self._rows.items()}

    def recount(self) -> None:
        """Looks at the files again, after somebody else changed them."""
        self._rows = {event.event_name: rows_by_batch(self.path(event)) for event in self._usecase.events}

    def write(self, records: DataFrame, batch_id: int, erasures: Erasures) -> Written:
        """Archives a micro-batch of `spark_events.read_stream`; one that comes again leaves the lake as it was."""
        parts = [self._write(records, event, batch_id, erasures) for event in self._usecase.events]
        return Written(
            archived=sum(part.archived for part in parts),
            unreadable=sum(part.unreadable for part in parts),
            erased=sum(part.erased for part in parts),
        )

    def unreadable(self, records: DataFrame, most: int) -> list[DeadLetter]:
        """The first records of a micro-batch that are no event, at most so many of each topic, and why."""
        return [letter for event in self._usecase.events for letter in self._unreadable(records, event, most)]

    def firsts_within(
        self, session: SparkSession, events: Sequence[type[Event]], within_us: int
    ) -> dict[tuple[str, int], int]:
        """By topic and partition, the offset of the first event at most so much older than the newest of all."""
        held = [self._times(session, event) for event in events if self.holds(event)]
        if not held:
            return {}
        rows = reduce(DataFrame.unionByName, held)
        newest_us = rows.agg(F.max("time_us")).collect()[0][0]
        recent = rows.where(F.col("time_us") >= newest_us - within_us)
        found = recent.groupBy("topic", "kafka_partition").agg(F.min("kafka_offset").alias("first")).collect()
        return {(row["topic"], row["kafka_partition"]): row["first"] for row in found}

    def _times(self, session: SparkSession, event: type[Event]) -> DataFrame:
        topic = F.lit(event_topic(self._usecase.name, event.event_name).name).alias("topic")
        time_us = F.unix_micros("event_time").alias("time_us")
        return session.read.parquet(str(self.path(event))).select(topic, "kafka_partition", "kafka_offset", time_us)

    def _write(self, records: DataFrame, event: type[Event], batch_id: int, erasures: Erasures) -> Written:
        read, kept = Observation(), Observation()
        good = is_event(event, F.col("envelope"))
        parsed = self._parsed(records, event).observe(
            read, F.count(F.lit(1)).alias("records"), F.count_if(~good).alias("unreadable")
        )
        named, arrived = named_in(self._usecase, event), F.col("envelope.ingest_time")
        events = without_erased(parsed.where(good), named, arrived, erasures, within="envelope.event.")
        _columns(events, batch_id).observe(kept, F.count(F.lit(1)).alias("rows")).write.mode("overwrite").partitionBy(
            "event_date", "batch_id"
        ).parquet(str(self.path(event)))
        rows, (seen, unreadable) = kept.get["rows"], (read.get["records"], read.get["unreadable"])
        self._rows[event.event_name][batch_id] = rows
        return Written(archived=rows, unreadable=unreadable, erased=seen - unreadable - rows)

    def _unreadable(self, records: DataFrame, event: type[Event], most: int) -> list[DeadLetter]:
        bad = self._parsed(records, event).where(~is_event(event, F.col("envelope")))
        value = F.coalesce(F.col("value"), F.lit(bytearray()))
        rows = (
            bad.orderBy("partition", "offset")
            .limit(most)
            .select(
                "partition",
                "offset",
                F.unix_micros("timestamp").alias("received_us"),
                F.substring(F.col("key"), 1, _EXAMINED_BYTES).alias("key"),
                F.substring(value, 1, _EXAMINED_BYTES).alias("value"),
                F.length(value).cast("bigint").alias("size_bytes"),
            )
        )
        topic = event_topic(self._usecase.name, event.event_name).name
        return [_letter(topic, event, row) for row in rows.toArrow().to_pylist()]

    def _parsed(self, records: DataFrame, event: type[Event]) -> DataFrame:
        mine = records.where(F.col("topic") == event_topic(self._usecase.name, event.event_name).name)
        return mine.select(envelope_of(event).alias("envelope"), "partition", "offset", "timestamp", "key", "value")


def _columns(events: DataFrame, batch_id: int) -> DataFrame:
    return (
        events.select(
            "envelope.event.*",
            "envelope.ingest_time",
            "envelope.request_id",
            F.coalesce("envelope.backfilled", F.lit(False)).alias("backfilled"),
            F.col("partition").alias("kafka_partition"),
            F.col("offset").alias("kafka_offset"),
            F.to_date("envelope.event.event_time").alias("event_date"),
            F.lit(batch_id).alias("batch_id"),
        )
        # One file for each date: a lake of small files is slow to read.
        .coalesce(1)
    )


def _letter(topic: str, event: type[Event], row: dict[str, Any]) -> DeadLetter:
    key, value = row["key"] or b"", row["value"] or b""
    fault, detail = examine(event, value)
    return DeadLetter(
        topic=topic,
        partition=row["partition"],
        offset=row["offset"],
        received_us=row["received_us"],
        fault=fault,
        detail=detail,
        key=cut(key),
        value=cut(value),
        size_bytes=row["size_bytes"],
    )
