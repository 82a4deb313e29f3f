"""Asks for a new model when the world has moved away from the one that serves, and not too often."""

from __future__ import annotations

from datetime import datetime, timedelta

from flywheel.contracts.models import ModelManifest
from flywheel.contracts.training import TrainingRequested
from flywheel.kernel.evaluation import auc_standard_error
from services.monitor.state import Drift, Quality, Retraining

_POSITIVES_LEAST = 50
_ERRORS_BEYOND = 2.0


class RetrainingTrigger:
    """Decides whether to ask, at most once in `every`, counted from the last request and the last finished run."""

    def __init__(self, *, enabled: bool, every: timedelta, auc_drop: float) -> None:
        self._enabled = enabled
        self._every = every
        self._auc_drop = auc_drop
        self._last: TrainingRequested | None = None

    def consider(
        self, drift: Drift, champion: Quality, manifest: ModelManifest | None, finished: datetime | None, now: datetime
    ) -> TrainingRequested | None:
        """A request that should be published now, or None. Tell `requested` once it was."""
        if not self._enabled or manifest is None or not self._may(finished, now):
            return None
        reason = self._drifted(drift) or self._lost_quality(champion, manifest)
        if reason is None:
            return None
        return TrainingRequested(request_id=f"monitor-{now:%Y%m%dT%H%M%S}", requested_at=now, reason=reason)

    def requested(self, request: TrainingRequested) -> None:
        """The request is in the log."""
        self._last = request

    @property
    def state(self) -> Retraining:
        return Retraining(
            enabled=self._enabled,
            at_most_every_minutes=self._every.total_seconds() / 60,
            last_requested_at=self._last.requested_at if self._last else None,
            last_reason=self._last.reason if self._last else None,
        )

    def _may(self, finished: datetime | None, now: datetime) -> bool:
        last = self._last.requested_at if self._last else None
        return all(moment is None or now - moment >= self._every for moment in (finished, last))

    def _drifted(self, drift: Drift) -> str | None:
        score = drift.score
        if score is None or not score.drifted:
            return None
        return f"scores drifted: PSI {score.psi:.2f} over {drift.alarm_windows} windows, threshold {drift.threshold}"

    def _lost_quality(self, champion: Quality, manifest: ModelManifest) -> str | None:
        published = manifest.metrics.get("auc")
        if published is None or champion.auc is None or champion.positives < _POSITIVES_LEAST:
            return None
        error = auc_standard_error(champion.auc, champion.positives, champion.decisions - champion.positives)
        if champion.auc + _ERRORS_BEYOND * error >= published - self._auc_drop:
            return None
        return f"matured AUC {champion.auc:.3f} (standard error {error:.3f}) against {published:.3f} when published"
