"""How a training run ended, as its process hands it to the service."""

from __future__ import annotations

from dataclasses import dataclass

from flywheel.contracts.training import TrainingFinished


@dataclass(frozen=True)
class Outcome:
    """What is announced about a run, and over how many rows it went."""

    finished: TrainingFinished
    rows: int
