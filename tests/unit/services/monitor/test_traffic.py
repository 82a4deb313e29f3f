"""What is said of the newest decisions: whether they fall back, and how long their stages took."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flywheel.contracts.decisions import MODEL_RUN, DecisionLogged, Fallback, Step
from flywheel.contracts.topics import decisions_topic
from services.monitor.traffic import falling_back, stages
from tests.monitor_scene import NOW, Scene
from usecases.fraud import usecase


@pytest.fixture
def logged() -> DecisionLogged:
    scene = Scene(per_day=1)
    scene.days(0, 1)
    (record,) = scene.broker.records(decisions_topic("fraud").name)
    return DecisionLogged.model_validate_json(record.value)


def fallen(logged: DecisionLogged, step: Step | None, *, seconds_ago: float = 10) -> DecisionLogged:
    at = NOW - timedelta(seconds=seconds_ago)
    return logged.model_copy(update={"decided_at": at, "fallback": Fallback.FEATURES_STALE, "step": step})


def test_fallbacks_of_the_last_minute_are_told_with_the_step_that_most_were_made_by(logged: DecisionLogged) -> None:
    by_model = logged.model_copy(update={"decided_at": NOW, "fallback": Fallback.NONE, "step": Step.MODEL})
    long_ago = [by_model.model_copy(update={"decided_at": NOW - timedelta(seconds=61)})] * 50
    steps = [Step.RULE, Step.DEFAULTS, Step.RULE]
    seen = [*long_ago, by_model, *(fallen(logged, step) for step in steps)]
    assert falling_back(seen, NOW) == (0.75, Step.RULE)
    assert falling_back([by_model], NOW) == (0.0, None)


def test_without_a_decision_of_late_or_a_step_nothing_is_claimed(logged: DecisionLogged) -> None:
    assert falling_back([fallen(logged, Step.RULE, seconds_ago=90)], NOW) == (None, None)
    assert falling_back([fallen(logged, None)], NOW) == (1.0, None)


def test_the_run_of_a_model_is_no_stage_beside_the_stages(logged: DecisionLogged) -> None:
    together = logged.model_copy(update={"stage_ms": logged.stage_ms | {MODEL_RUN: 0.3}})
    assert [stage.name for stage in stages([together], usecase)] == ["total", "features", "model", "policy"]
