"""The state as Prometheus gauges."""

from __future__ import annotations

from flywheel.contracts import metrics
from services.monitor.state import Arm, Measure, Quality, State, Variable

_ALL = "all"


def expose(state: State) -> None:
    """Sets every gauge of the monitor to what the state says; what is not known keeps its last value."""
    usecase = state.usecase
    for variable in (*state.drift.variables, *([state.drift.score] if state.drift.score else [])):
        _expose_variable(usecase, variable)
    _expose_quality(usecase, state.quality)
    if state.experiment is not None:
        for arm in state.experiment.arms:
            _expose_arm(usecase, arm)
        if state.experiment.sample_ratio_p is not None:
            metrics.MONITOR_SRM_P.labels(usecase).set(state.experiment.sample_ratio_p)
    if state.loop.lag_records is not None:
        metrics.MONITOR_LAG.labels(usecase).set(state.loop.lag_records)
    for process, restarts in state.loop.restarts.items():
        metrics.SUPERVISOR_RESTARTS.labels(process).set(restarts)


def _expose_variable(usecase: str, variable: Variable) -> None:
    if variable.psi is None or variable.noise is None:
        return
    metrics.MONITOR_PSI.labels(usecase, variable.name).set(variable.psi)
    metrics.MONITOR_PSI_NOISE.labels(usecase, variable.name).set(variable.noise)
    metrics.MONITOR_DRIFTED.labels(usecase, variable.name).set(variable.drifted)


def _expose_quality(usecase: str, quality: Quality) -> None:
    metrics.MONITOR_MATURED.labels(usecase, _ALL).set(quality.decisions)
    if quality.saved_cents is not None:
        metrics.MONITOR_SAVED_CENTS.labels(usecase, _ALL).set(quality.saved_cents)
    measures = {
        "precision": quality.precision,
        "recall": quality.recall,
        "auc": quality.auc,
        "average_precision": quality.average_precision,
    }
    _expose_measures(usecase, _ALL, measures)


def _expose_arm(usecase: str, arm: Arm) -> None:
    metrics.MONITOR_MATURED.labels(usecase, arm.role).set(arm.matured)
    saved = arm.saved_per_1000.estimate
    if saved is not None:
        metrics.MONITOR_SAVED_CENTS.labels(usecase, arm.role).set(saved * arm.matured / 1_000)
    measures = {
        "precision": arm.precision.estimate,
        "recall": arm.recall.estimate,
        "auc": arm.auc,
        "average_precision": arm.average_precision,
    }
    _expose_measures(usecase, arm.role, measures)


def _expose_measures(usecase: str, arm: str, measures: dict[str, Measure]) -> None:
    for name, value in measures.items():
        if value is not None:
            metrics.MONITOR_QUALITY.labels(usecase, arm, name).set(value)
