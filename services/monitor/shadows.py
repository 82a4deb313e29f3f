"""What the shadow would have said, beside what was answered."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from flywheel.contracts.models import Deployment
from flywheel.contracts.shadows import ShadowScored
from flywheel.kernel import drift
from services.monitor.state import ShadowSeen

_KEPT = 5_000
_LEAST_FOR_PSI = 100


class Shadows:
    """The newest scores of the shadow, a bounded number."""

    def __init__(self) -> None:
        self._newest: deque[ShadowScored] = deque(maxlen=_KEPT)

    def add(self, scored: ShadowScored) -> None:
        """Takes a score in. Raises ValueError for one that is no number."""
        if not (math.isfinite(scored.score) and math.isfinite(scored.served_score)):
            raise ValueError("scores must be finite")
        self._newest.append(scored)

    def state(self, deployment: Deployment | None) -> ShadowSeen | None:
        """How far the deployed shadow is from what was answered by models; None without one."""
        if deployment is None or deployment.shadow is None:
            return None
        mine = [scored for scored in self._newest if scored.version == deployment.shadow]
        if not mine:
            return ShadowSeen(version=deployment.shadow, decisions=0)
        shadow = np.array([scored.score for scored in mine])
        served = np.array([scored.served_score for scored in mine])
        found = ShadowSeen(
            version=deployment.shadow,
            decisions=len(mine),
            otherwise_share=sum(scored.action != scored.served_action for scored in mine) / len(mine),
            mean_difference=float(np.mean(shadow - served)),
            mean_distance=float(np.mean(np.abs(shadow - served))),
        )
        if len(mine) < _LEAST_FOR_PSI:
            return found
        reference = drift.histogram(served)
        shift = drift.shift(reference, drift.count(shadow, reference))
        return found.model_copy(update={"psi": shift.psi, "psi_noise": shift.noise})
