"""Says why a decision came out as it did, in the codes that a use case declares."""

from __future__ import annotations

from collections.abc import Mapping

from flywheel.contracts.decisions import Fallback
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.policy import Action

EXPECTED_COST = "expected_cost"
"""Given when no declared reason holds: at the model's score and this amount, approving is expected to cost more."""

EXPECTED_COST_BY_RULE = "expected_cost_by_rule"
"""The same at the score of the declared rule, where the model did not decide."""


def reasons_for(usecase: UseCase, values: Mapping[str, float], action: Action, fallback: Fallback) -> tuple[str, ...]:
    """Codes, most important first: why the model did not decide (if so) and where the rule led, then the declared ones.

    `values` are the features that are known. Nobody is stepped up or declined without a reason.
    """
    found = tuple(reason.code for reason in usecase.reasons if values.get(reason.feature, reason.above) > reason.above)
    if fallback is not Fallback.NONE:
        led_to = () if action is Action.APPROVE else (EXPECTED_COST_BY_RULE,)
        return (str(fallback), *led_to, *found)
    return found or (() if action is Action.APPROVE else (EXPECTED_COST,))


def rule_name(usecase: UseCase) -> str:
    """How the declared rule is called where a model's version would stand."""
    return f"rule:{usecase.fallback.name}"
