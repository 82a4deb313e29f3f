"""Archives micro-batches in the lake."""

from __future__ import annotations

from pyspark.sql import DataFrame

from flywheel.adapters.spark_archive import Lake
from flywheel.adapters.spark_checkpoint import Checkpoint
from flywheel.contracts.metrics import FEATURES_ARCHIVED

LAKE = "the lake"


class Archiver:
    """Sink of the archive query. A batch that comes again replaces its own files."""

    def __init__(self, usecase: str, lake: Lake, checkpoint: Checkpoint) -> None:
        self._usecase = usecase
        self._lake = lake
        self._checkpoint = checkpoint
        self._publish()

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        self._checkpoint.claim(self._lake, LAKE)
        self._lake.write(batch, batch_id)
        self._publish()

    def _publish(self) -> None:
        for name, number in self._lake.counts().items():
            FEATURES_ARCHIVED.labels(self._usecase, name).set(number)
