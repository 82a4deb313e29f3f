"""Reasons come in the declared order, and nobody is stopped without one."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.contracts.decisions import Fallback, Step
from flywheel.kernel.policy import Action
from flywheel.kernel.reasons import EXPECTED_COST, EXPECTED_COST_BY_RULE, STATIC, Reasons
from tests.serving_parts import USECASE

REASONS = Reasons(USECASE)
BOUNDS = {reason.feature: reason.above for reason in USECASE.reasons}
CALM = [BOUNDS.get(name, np.inf) for name in USECASE.feature_names]
ALARMING = [bound + 1 for bound in CALM]
ALL = tuple(reason.code for reason in USECASE.reasons)


def test_a_reason_is_given_only_above_its_bound_and_in_the_declared_order() -> None:
    assert REASONS.declared(CALM) == ()
    assert REASONS.declared(ALARMING) == ALL
    for action in Action:
        assert REASONS.given(ALL, action, Fallback.NONE, Step.MODEL) == ALL


def test_of_what_is_not_known_there_are_no_reasons() -> None:
    known = np.array([name == "amount_cents" for name in USECASE.feature_names])
    assert REASONS.declared(ALARMING, known) == ("amount_high",)


@pytest.mark.parametrize("action", [Action.STEP_UP, Action.DECLINE])
def test_whoever_is_stopped_by_the_expected_cost_alone_is_told_so(action: Action) -> None:
    assert REASONS.given((), action, Fallback.NONE, Step.MODEL) == (EXPECTED_COST,)
    assert REASONS.given((), Action.APPROVE, Fallback.NONE, Step.MODEL) == ()


@pytest.mark.parametrize("why", [Fallback.FEATURES_UNAVAILABLE, Fallback.MODEL_UNAVAILABLE, Fallback.DEADLINE])
@pytest.mark.parametrize(("step", "led_to"), [(Step.RULE, EXPECTED_COST_BY_RULE), (Step.STATIC, STATIC)])
def test_a_fallback_is_the_first_reason_and_says_where_it_led(why: Fallback, step: Step, led_to: str) -> None:
    found = REASONS.given(("amount_high",), Action.STEP_UP, why, step)
    assert found == (why, led_to, "amount_high")
    assert REASONS.given((), Action.APPROVE, why, step) == (why,)


def test_a_model_that_was_shown_defaults_decides_for_its_own_reasons() -> None:
    why = Fallback.FEATURES_UNAVAILABLE
    assert REASONS.given((), Action.DECLINE, why, Step.DEFAULTS) == (why, EXPECTED_COST)
    assert REASONS.given(("amount_high",), Action.DECLINE, why, Step.DEFAULTS) == (why, "amount_high")
