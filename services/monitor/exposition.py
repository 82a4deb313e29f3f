"""The state as Prometheus gauges."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Gauge

from flywheel.contracts import metrics
from flywheel.contracts.models import Role
from services.monitor.state import Arm, Measure, Quality, State, Variable

_ALL = "all"

Series = tuple[Gauge, tuple[str, ...]]
"""A gauge and the values of its labels."""


class Exposition:
    """Keeps every gauge of the monitor at what the state says; what is not known or gone has no series."""

    def __init__(self) -> None:
        self._shown: set[Series] = set()

    def show(self, state: State) -> None:
        """Sets what is known, and removes what was shown before and is not known any more."""
        known = {(gauge, labels): value for gauge, labels, value in _values(state) if value is not None}
        for (gauge, labels), value in known.items():
            gauge.labels(*labels).set(value)
        for gauge, labels in self._shown - known.keys():
            gauge.remove(*labels)
        self._shown = set(known)


def _values(state: State) -> Iterator[tuple[Gauge, tuple[str, ...], Measure]]:
    usecase = state.usecase
    for variable in (*state.drift.variables, *([state.drift.score] if state.drift.score else [])):
        yield from _of_variable(usecase, variable)
    yield from _of_quality(usecase, state.quality)
    if state.experiment is not None:
        for arm in state.experiment.arms:
            yield from _of_arm(usecase, arm)
        yield metrics.MONITOR_SRM_P, (usecase,), state.experiment.sample_ratio_p
    if state.canary is not None:
        canary = state.canary
        yield metrics.MONITOR_CANARY_DECISIONS, (usecase,), canary.decisions
        yield metrics.MONITOR_CANARY_LATE, (usecase, Role.CHAMPION), canary.champion_late
        yield metrics.MONITOR_CANARY_LATE, (usecase, Role.CANARY), canary.late
        yield metrics.MONITOR_FALLBACK_SHARE, (usecase, Role.CANARY), canary.fallback_share
    if state.shadow is not None:
        yield metrics.MONITOR_SHADOW_OTHERWISE, (usecase,), state.shadow.otherwise_share
        yield metrics.MONITOR_SHADOW_PSI, (usecase,), state.shadow.psi
    evidence = state.evidence
    for outcome in ("logged", "lost", "under_way", "unexplained"):
        yield metrics.MONITOR_ANSWERED, (usecase, outcome), getattr(evidence, outcome)
    yield metrics.MONITOR_LAG, (usecase,), state.loop.lag_records
    for process, restarts in state.loop.restarts.items():
        yield metrics.SUPERVISOR_RESTARTS, (process,), restarts


def _of_variable(usecase: str, variable: Variable) -> Iterator[tuple[Gauge, tuple[str, ...], Measure]]:
    if variable.psi is None or variable.noise is None:
        return
    labels = (usecase, variable.name)
    yield metrics.MONITOR_PSI, labels, variable.psi
    yield metrics.MONITOR_PSI_NOISE, labels, variable.noise
    yield metrics.MONITOR_DRIFTED, labels, variable.drifted


def _of_quality(usecase: str, quality: Quality) -> Iterator[tuple[Gauge, tuple[str, ...], Measure]]:
    yield metrics.MONITOR_MATURED, (usecase, _ALL), quality.decisions
    yield metrics.MONITOR_SAVED_CENTS, (usecase, _ALL), quality.saved_cents
    yield metrics.MONITOR_QUALITY, (usecase, _ALL, "precision"), quality.precision
    yield metrics.MONITOR_QUALITY, (usecase, _ALL, "recall"), quality.recall
    yield metrics.MONITOR_QUALITY, (usecase, _ALL, "auc"), quality.auc
    yield metrics.MONITOR_QUALITY, (usecase, _ALL, "average_precision"), quality.average_precision


def _of_arm(usecase: str, arm: Arm) -> Iterator[tuple[Gauge, tuple[str, ...], Measure]]:
    saved = arm.saved_per_1000.estimate
    yield metrics.MONITOR_MATURED, (usecase, arm.role), arm.matured
    yield metrics.MONITOR_SAVED_CENTS, (usecase, arm.role), None if saved is None else saved * arm.matured / 1_000
    yield metrics.MONITOR_QUALITY, (usecase, arm.role, "precision"), arm.precision.estimate
    yield metrics.MONITOR_QUALITY, (usecase, arm.role, "recall"), arm.recall.estimate
    yield metrics.MONITOR_QUALITY, (usecase, arm.role, "auc"), arm.auc
    yield metrics.MONITOR_QUALITY, (usecase, arm.role, "average_precision"), arm.average_precision
    yield metrics.MONITOR_FALLBACK_SHARE, (usecase, arm.role), arm.fallback_share
