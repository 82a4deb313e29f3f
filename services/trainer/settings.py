"""Settings of the trainer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flywheel.contracts.settings import PlatformSettings


class TrainerSettings(PlatformSettings):
    """What a run may take, beside what all processes share."""

    training_timeout_s: float = Field(default=900.0, gt=0)
    """A run that takes longer is ended and announced as failed."""
    training_join_memory_mib: int = Field(default=384, gt=0)
    """Of the point-in-time join; what does not fit is spilled to disk."""
    training_join: Literal["duckdb", "feast"] = "duckdb"
    """Who joins features to training rows: our own join, or Feast's `get_historical_features` on the same files."""
    training_prefers_served: bool = True
    """Whether rows that were decided with complete fresh features are trained on as they were served."""
