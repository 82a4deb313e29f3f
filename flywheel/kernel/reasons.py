"""Says why a decision came out as it did, in the codes that a use case declares."""

from __future__ import annotations

from collections.abc import Mapping

from flywheel.contracts.decisions import Fallback
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.policy import Action

SCORE_HIGH = "model_score_high"
"""Given when the model alone, and no declared reason, speaks against the subject."""


def reasons_for(usecase: UseCase, values: Mapping[str, float], action: Action, fallback: Fallback) -> tuple[str, ...]:
    """Codes, most important first: why the model did not decide (if so) and by which rule, then the declared ones.

    `values` are the features that are known. Nobody is stepped up or declined without a reason.
    """
    found = tuple(reason.code for reason in usecase.reasons if values.get(reason.feature, reason.above) > reason.above)
    if fallback is not Fallback.NONE:
        return (str(fallback), rule_name(usecase), *found)
    return found or (() if action is Action.APPROVE else (SCORE_HIGH,))


def rule_name(usecase: UseCase) -> str:
    """How the declared rule is called where a model's version would stand."""
    return f"rule:{usecase.fallback.name}"
