"""Drift of the newest decisions against the champion's training reference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.decisions import DecisionLogged, Fallback
from flywheel.contracts.models import Histogram, ModelManifest
from flywheel.kernel import drift
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.fields import REQUEST_TIME
from services.monitor.state import Drift, ScoreBins, Variable

SCORE = "score"


class DriftWatch:
    """Compares windows of decisions with the reference, and remembers which variables exceeded in a row.

    What is shown slides with every decision; the alarm moves on only when a whole window is new, so its windows
    share no decision. A new champion starts afresh.
    """

    def __init__(self, usecase: UseCase, *, window: int, least: int, alarm_windows: int) -> None:
        self._window = window
        self._least = min(least, window)
        self._alarm_windows = alarm_windows
        self._calendar = {feature.name for feature in usecase.at_request if set(feature.inputs) == {REQUEST_TIME}}
        self._alarms: dict[str, drift.Alarm] = {}
        self._version: str | None = None
        self._observed_at = 0

    def look(self, recent: Sequence[DecisionLogged], decisions: int, manifest: ModelManifest | None) -> Drift:
        """Drift now. `decisions` is how many have been read in all."""
        if manifest is None:
            return self._waiting(0)
        if manifest.version != self._version:
            self._version, self._alarms, self._observed_at = manifest.version, {}, decisions
        rows = comparable(recent, manifest.feature_names)
        if len(rows) < self._least:
            return self._waiting(len(rows))
        is_new_window = decisions - self._observed_at >= self._window
        if is_new_window:
            self._observed_at = decisions
        scores = np.array([logged.score for logged in rows if logged.model_version == manifest.version])
        features = np.array([logged.features for logged in rows], dtype=np.float64)
        return Drift(
            decisions=len(rows),
            decisions_needed=self._least,
            threshold=drift.THRESHOLD,
            alarm_windows=self._alarm_windows,
            score=self._variable(SCORE, scores, manifest.score_reference, is_new_window),
            variables=tuple(
                self._variable(name, features[:, column], manifest.reference[name], is_new_window)
                for column, name in enumerate(manifest.feature_names)
                if name in manifest.reference
            ),
            score_bins=_score_bins(scores, manifest.score_reference),
        )

    def _variable(self, name: str, values: NDArray[np.float64], reference: Histogram, is_new: bool) -> Variable:
        found = drift.shift(reference, drift.count(values, reference))
        follows_calendar = name in self._calendar
        alarm = self._alarms.setdefault(name, drift.Alarm(self._alarm_windows))
        if is_new:
            alarm.observe(found.exceeds and values.size >= self._least)
        return Variable(
            name=name,
            psi=found.psi,
            noise=found.noise,
            exceeds=found.exceeds,
            drifted=alarm.ringing and not follows_calendar,
            follows_calendar=follows_calendar,
        )

    def _waiting(self, decisions: int) -> Drift:
        return Drift(
            decisions=decisions,
            decisions_needed=self._least,
            threshold=drift.THRESHOLD,
            alarm_windows=self._alarm_windows,
            score=None,
            variables=(),
            score_bins=None,
        )


def comparable(recent: Iterable[DecisionLogged], feature_names: tuple[str, ...]) -> list[DecisionLogged]:
    """The decisions that a model made on exactly these features."""
    # Where features were not to be had the vector holds defaults: that is an outage, not drift.
    return [logged for logged in recent if logged.fallback == Fallback.NONE and logged.feature_names == feature_names]


def _score_bins(scores: NDArray[np.float64], reference: Histogram) -> ScoreBins | None:
    current = drift.count(scores, reference)[:-1]
    expected = np.array(reference.counts)
    if not current.sum() or not expected.sum():
        return None
    return ScoreBins(
        edges=reference.edges,
        reference=tuple(float(share) for share in expected / expected.sum()),
        current=tuple(float(share) for share in current / current.sum()),
    )
