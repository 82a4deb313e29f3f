"""Reasons come in the declared order, and nobody is stopped without one."""

from __future__ import annotations

import pytest

from flywheel.contracts.decisions import Fallback
from flywheel.kernel.policy import Action
from flywheel.kernel.reasons import EXPECTED_COST, EXPECTED_COST_BY_RULE, reasons_for
from tests.serving_parts import USECASE

CALM = {reason.feature: reason.above for reason in USECASE.reasons}
ALL = tuple(reason.code for reason in USECASE.reasons)


def test_a_reason_is_given_only_above_its_bound_and_in_the_declared_order() -> None:
    assert reasons_for(USECASE, CALM, Action.APPROVE, Fallback.NONE) == ()
    above = {name: bound + 1 for name, bound in reversed(CALM.items())}
    assert reasons_for(USECASE, above, Action.DECLINE, Fallback.NONE) == ALL
    assert reasons_for(USECASE, above, Action.APPROVE, Fallback.NONE) == ALL


@pytest.mark.parametrize("action", [Action.STEP_UP, Action.DECLINE])
def test_whoever_is_stopped_by_the_expected_cost_alone_is_told_so(action: Action) -> None:
    assert reasons_for(USECASE, CALM, action, Fallback.NONE) == (EXPECTED_COST,)


@pytest.mark.parametrize("why", [Fallback.FEATURES_UNAVAILABLE, Fallback.MODEL_UNAVAILABLE, Fallback.DEADLINE])
def test_a_fallback_is_the_first_reason_and_unknown_features_give_none(why: Fallback) -> None:
    found = reasons_for(USECASE, {"amount_cents": 30_000}, Action.STEP_UP, why)
    assert found == (why, EXPECTED_COST_BY_RULE, "amount_high")


def test_a_fallback_that_approves_gives_its_cause_alone() -> None:
    found = reasons_for(USECASE, {"amount_cents": 4_200}, Action.APPROVE, Fallback.MODEL_UNAVAILABLE)
    assert found == ("model_unavailable",)
