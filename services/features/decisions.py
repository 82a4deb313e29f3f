"""Archives what was decided, with the features as they were served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pyspark.sql import DataFrame, SparkSession

from flywheel.adapters.kafka_offsets import KafkaOffsets
from flywheel.adapters.lake_lock import writing
from flywheel.adapters.spark_checkpoint import Checkpoint
from flywheel.adapters.spark_decisions import DecisionLake, read_decisions
from flywheel.contracts.metrics import FEATURES_ARCHIVED
from flywheel.contracts.topics import decisions_topic
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.erasure import unit_entity
from flywheel.kernel.ports import ErasureLog
from services.features.archive import current_erasures
from services.features.settings import FeaturesSettings
from services.features.stream import StreamJob

LAKE = "the lake of decisions"

_OBSERVED_EVERY_US = 2_000_000


@dataclass
class DecisionArchive:
    """The job that archives decisions, and its progress."""

    settings: FeaturesSettings
    lake: DecisionLake
    erasures: ErasureLog
    checkpoint: Checkpoint
    job: StreamJob
    offsets: KafkaOffsets
    due_us: int = 0

    @classmethod
    def assemble(cls, settings: FeaturesSettings, usecase: UseCase, erasures: ErasureLog) -> Self:
        """The job, not started yet. Raises LostTrack."""
        lake = DecisionLake(settings.lake_dir, settings.usecase, unit_entity(usecase), ranks=usecase.ranks)
        checkpoint = Checkpoint(settings.decisions_checkpoint, "decisions")
        checkpoint.check(lake.marker, LAKE)
        return cls(
            settings=settings,
            lake=lake,
            erasures=erasures,
            checkpoint=checkpoint,
            job=StreamJob(settings.usecase, "decisions"),
            offsets=KafkaOffsets(settings.kafka_bootstrap, [decisions_topic(settings.usecase).name]),
        )

    def start(self, session: SparkSession) -> None:
        """Archiving goes on where it stopped."""
        self._publish()
        self.job.start(
            read_decisions(session, self.settings.kafka_bootstrap, self.settings.usecase),
            self,
            output="append",
            checkpoint=self.settings.decisions_checkpoint,
            trigger_ms=self.settings.decisions_trigger_ms,
        )

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        """Sink of the query. A batch that comes again replaces its own files."""
        self.checkpoint.claim(self.lake.marker, LAKE)
        with writing(self.lake.path.parent):
            self.lake.write(batch, batch_id, current_erasures(self.erasures))
        self._publish()

    def observe(self, at_us: int) -> None:
        """Takes note now and then of how far the job is; `at_us` is now. Raises JobDied, and Unavailable."""
        if at_us >= self.due_us:
            self.due_us = at_us + _OBSERVED_EVERY_US
            self.job.observe(at_us, self.offsets.ends())

    def close(self) -> None:
        """The query ends between two micro-batches."""
        try:
            self.job.stop()
        finally:
            self.offsets.close()

    def _publish(self) -> None:
        FEATURES_ARCHIVED.labels(self.settings.usecase, "decisions").set(self.lake.count())
