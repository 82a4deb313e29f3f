"""The time a decision has: its budget, the caller's deadline, what each stage took."""

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


class Allowance:
    """The time of one decision, from its arrival until it is due, on the steady clock in seconds.

    A caller who gives less than the declared total gets the same stages, each shortened alike.
    """

    __slots__ = ("_features_s", "_model_s", "_total_s", "arrived_s", "due_s")

    def __init__(self, budget: LatencyBudget, arrived_s: float, deadline_s: float) -> None:
        declared_s = budget.total_ms / 1000
        self.arrived_s = arrived_s
        self.due_s = min(arrived_s + declared_s, deadline_s)
        self._total_s = self.due_s - arrived_s
        share = self._total_s / budget.total_ms
        self._features_s = budget.features_ms * share
        self._model_s = budget.model_ms * share

    def features_s(self, now_s: float) -> float:
        """What reading features may take now, so that the model keeps its share; not above 0 when nothing is left."""
        return min(self._features_s, self.due_s - now_s - self._model_s)

    def has_time_for_model(self, now_s: float) -> bool:
        """Whether the model has its share left."""
        return self.due_s - now_s >= self._model_s

    def late(self, now_s: float) -> OutOfTime | None:
        """What to tell the caller when nothing is left."""
        if now_s < self.due_s:
            return None
        spent_ms, given_ms = (now_s - self.arrived_s) * 1000, self._total_s * 1000
        return OutOfTime(f"{spent_ms:.1f} ms have passed where {given_ms:.1f} ms were given")
