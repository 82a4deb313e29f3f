"""Settings of the trainer."""

from __future__ import annotations

from flywheel.contracts.settings import PlatformSettings


class TrainerSettings(PlatformSettings):
    """How long a run may take, beside what all processes share."""

    training_timeout_s: float = 900.0
