"""The gauges say what the state says, and nothing of what is gone."""

from __future__ import annotations

import time

from prometheus_client import REGISTRY

from services.monitor.exposition import Exposition
from services.monitor.state import Drift, State, Variable
from tests.monitor_scene import Scene


def variable(name: str, psi: float | None = 0.1) -> Variable:
    return Variable(name=name, psi=psi, noise=0.01, exceeds=False, drifted=False, follows_calendar=False)


def drift(*variables: Variable) -> Drift:
    return Drift(
        decisions=1,
        decisions_needed=1,
        threshold=0.2,
        alarm_windows=3,
        score=None,
        variables=variables,
        score_bins=None,
    )


def psi_of(name: str) -> float | None:
    return REGISTRY.get_sample_value("flywheel_monitor_psi", {"usecase": "gone", "variable": name})


def matured_of(arm: str) -> float | None:
    return REGISTRY.get_sample_value("flywheel_monitor_matured_decisions", {"usecase": "gone", "arm": arm})


def test_variables_and_arms_that_are_gone_have_no_series() -> None:
    scene = Scene(per_day=40)
    scene.deploy()
    scene.days(0, 10)
    watch = scene.monitor(monitor_refresh_s=0.02).watch
    watch.start()
    until = time.monotonic() + 10
    try:
        while not (watch.state.loop.lag_records == 0 and watch.state.experiment):
            assert time.monotonic() < until, "the monitor has not read its log"
            time.sleep(0.005)
    finally:
        watch.stop()
    state: State = watch.state.model_copy(update={"usecase": "gone"})
    exposition = Exposition()
    exposition.show(state.model_copy(update={"drift": drift(variable("old"), variable("kept"))}))
    assert psi_of("old") == psi_of("kept") == 0.1
    assert matured_of("challenger") is not None
    exposition.show(
        state.model_copy(update={"drift": drift(variable("kept", 0.3), variable("new", None)), "experiment": None})
    )
    assert (psi_of("old"), psi_of("kept"), psi_of("new")) == (None, 0.3, None)
    assert matured_of("challenger") is None
    assert matured_of("all") == state.quality.decisions
