"""Settings of the features service, beside those that all processes share."""

from __future__ import annotations

from pathlib import Path

from pydantic import AliasChoices, Field

from flywheel.contracts.settings import PlatformSettings


class FeaturesSettings(PlatformSettings):
    """How Spark runs and how often its jobs do; the master is read from `SPARK_MASTER` as well."""

    spark_master: str = Field(
        default="local[4]", validation_alias=AliasChoices("FLYWHEEL_SPARK_MASTER", "SPARK_MASTER")
    )
    """Where Spark runs; `SPARK_MASTER` without the prefix says it too."""
    spark_heap_mib: int = Field(default=1024, gt=0)
    """Java heap of the Spark driver."""
    spark_shuffle_partitions: int = Field(default=2, gt=0)
    """Partitions of state and of every shuffle; a checkpoint keeps the number it began with."""
    spark_jars_dir: Path = Path("infra/jars/spark")
    """Spark's Kafka connector."""
    tiles_trigger_ms: int = Field(default=300, ge=0)
    """Least time between two micro-batches of the stream that fills the online store."""
    archive_trigger_ms: int = Field(default=10_000, ge=0)
    """The same of the stream that writes the lake."""
    decisions_trigger_ms: int = Field(default=30_000, ge=0)
    """The same of the stream that archives decisions."""
    dead_letters_kept: int = Field(default=10_000, ge=1)
    """Records that were no event and whose begin is kept in the lake, the newest; all are counted."""
    history_kept: int = Field(default=3, ge=1)
    """Snapshots of feature history that are kept; older ones are deleted."""
    parity_decisions: int = Field(default=50, ge=1)
    """Decisions of each interval whose features are computed again from the archive."""
    parity_every_s: float = Field(default=30.0, gt=0)
    """That interval."""
    parity_settle_s: float = Field(default=30.0, ge=0)
    """How long after a decision its own event may still arrive."""
    parity_margin_ms: int = Field(default=2_000, ge=0)
    """Events that arrived that close to what a decision had seen may or may not have been seen."""
    parity_kept_minutes: float = Field(default=60.0, gt=0)
    """What a report of parity, and the promotion gate on it, is about."""
    parity_seed: int = 1
    """Of the choice of decisions."""
    parity_memory_mib: int = Field(default=256, gt=0)
    """For reading the archive; what does not fit is spilled to disk."""

    @property
    def scratch_dir(self) -> Path:
        return self.data_dir.absolute() / "spark"

    @property
    def tiles_checkpoint(self) -> Path:
        return self.checkpoint_dir.absolute() / self.usecase / "tiles"

    @property
    def archive_checkpoint(self) -> Path:
        return self.checkpoint_dir.absolute() / self.usecase / "archive"

    @property
    def decisions_checkpoint(self) -> Path:
        return self.checkpoint_dir.absolute() / self.usecase / "decisions"
