"""The time a decision has: its budget, the caller's patience, what each stage took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flywheel.kernel.declaration import LatencyBudget


class OutOfTime(Exception):
    """The time for this decision is over: an answer now would come too late to be used."""


@dataclass(frozen=True)
class Clock:
    """The two clocks of a process: `wall_us` since the Unix epoch, `steady_s` which only moves forward."""

    wall_us: Callable[[], int]
    steady_s: Callable[[], float]


class Watch:
    """Time spent and left of one decision.

    A caller who gives less than the declared total gets the same stages, each shortened alike.
    """

    def __init__(self, steady_s: Callable[[], float], budget: LatencyBudget, patience_ms: float) -> None:
        self._steady_s = steady_s
        self._started_s = self._lap_s = steady_s()
        self._total_ms = min(budget.total_ms, patience_ms)
        share = self._total_ms / budget.total_ms
        self._features_ms = budget.features_ms * share
        self._model_ms = budget.model_ms * share
        self.stage_ms: dict[str, float] = {}

    @property
    def spent_ms(self) -> float:
        return (self._steady_s() - self._started_s) * 1000

    @property
    def features_ms(self) -> float:
        """What reading features may take now, so that the model keeps its share; not above 0 when nothing is left."""
        return min(self._features_ms, self._total_ms - self.spent_ms - self._model_ms)

    @property
    def has_time_for_model(self) -> bool:
        return self._total_ms - self.spent_ms >= self._model_ms

    def lap(self, stage: str) -> None:
        """The stage that began with the last lap is over."""
        now_s = self._steady_s()
        self.stage_ms[stage] = (now_s - self._lap_s) * 1000
        self._lap_s = now_s

    def finish(self) -> None:
        """The decision is made. Raises OutOfTime when that took longer than there was."""
        spent_ms = self.stage_ms["total"] = self.spent_ms
        self.check(spent_ms)

    def check(self, spent_ms: float | None = None) -> None:
        """Raises OutOfTime when nothing is left."""
        spent_ms = self.spent_ms if spent_ms is None else spent_ms
        if spent_ms >= self._total_ms:
            raise OutOfTime(f"{spent_ms:.1f} ms have passed where {self._total_ms:.1f} ms were given")
