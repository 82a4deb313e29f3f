"""How a new model takes traffic: by declared steps, as long as nothing that was declared as a bound is crossed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flywheel.kernel.durations import parse_duration
from flywheel.kernel.features import InvalidDeclaration

MOST_DECISIONS = 20_000
"""So many of an arm's decisions are kept to judge it by."""


@dataclass(frozen=True)
class Guardrail:
    """An action that the canary must not take much more often than the champion.

    `more_by` is the difference of shares of all decisions that is still accepted.
    """

    action: str
    more_by: float


@dataclass(frozen=True)
class Rollout:
    """The steps of a canary and the bounds that end it. Each step must last `step_lasts` and see `decisions`.

    >>> Rollout().after(0.01), Rollout().after(0.25)
    (0.05, 1.0)
    """

    steps: tuple[float, ...] = (0.01, 0.05, 0.25, 1.0)
    """Shares of all units; the last, 1, makes the canary the champion."""
    step_lasts: str = "10m"
    """Wall clock."""
    decisions: int = 1_000
    """Of the canary, in each step."""
    latency_factor: float = 1.5
    """Its 99th percentile of the model's time may be so many times the champion's."""
    score_psi: float = 0.2
    """So far its scores may be from the champion's, beyond the noise of sampling."""
    guardrails: tuple[Guardrail, ...] = ()

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in zip(self.steps, self.steps[1:], strict=False))
        if not self.steps or not rising or not self.steps[0] > 0 or self.steps[-1] != 1:
            raise InvalidDeclaration(f"the steps of a rollout must rise from above 0 to 1, unlike {self.steps}")
        if parse_duration(self.step_lasts) <= 0 or self.decisions < 1:
            raise InvalidDeclaration("a step of a rollout needs some time and at least one decision")
        if self.decisions > MOST_DECISIONS:
            raise InvalidDeclaration(f"a step of a rollout sees at most {MOST_DECISIONS} decisions")
        for bound in (self.latency_factor - 1, self.score_psi, *(rail.more_by for rail in self.guardrails)):
            if not (math.isfinite(bound) and bound >= 0):
                raise InvalidDeclaration(
                    "the bounds of a rollout must be numbers: latency_factor from 1, the others from 0 on"
                )

    @property
    def step_lasts_s(self) -> float:
        return parse_duration(self.step_lasts) / 1e6

    @property
    def widest(self) -> float:
        """The largest share beside a champion."""
        return max((step for step in self.steps if step < 1), default=0.0)

    def after(self, share: float) -> float:
        """The step after one of that share."""
        return next((step for step in self.steps if step > share), 1.0)
