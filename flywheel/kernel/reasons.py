"""Says why a decision came out as it did, in the codes that a use case declares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.decisions import Fallback, Step
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.policy import Action

EXPECTED_COST = "expected_cost"
"""Given when no declared reason holds: at the model's score and this amount, approving is expected to cost more."""

EXPECTED_COST_BY_RULE = "expected_cost_by_rule"
"""The same at the score of the declared rule, where the model did not decide."""

STATIC = "static"
"""Stands where a model's version would where the static answer was given, and tells so where that stops somebody."""

_LED_TO = {Step.RULE: EXPECTED_COST_BY_RULE, Step.STATIC: STATIC}


class Reasons:
    """The declared reasons of a use case."""

    def __init__(self, usecase: UseCase) -> None:
        places = {name: place for place, name in enumerate(usecase.feature_names)}
        self._declared = tuple((reason.code, places[reason.feature], reason.above) for reason in usecase.reasons)

    def declared(self, values: Sequence[float], known: NDArray[np.bool_] | None = None) -> tuple[str, ...]:
        """Codes whose feature exceeds its bound, in the declared order; of the features that are known alone."""
        if not self._declared:
            return ()
        if known is None:
            return tuple([code for code, place, above in self._declared if values[place] > above])
        return tuple([code for code, place, above in self._declared if known[place] and values[place] > above])

    def given(self, declared: tuple[str, ...], action: Action, why: Fallback, step: Step) -> tuple[str, ...]:
        """Codes, most important first: what was amiss (if so) and where that led, then the declared ones.

        Nobody is stepped up or declined without a reason.
        """
        stopped = action is not Action.APPROVE
        if why is Fallback.NONE:
            return declared or ((EXPECTED_COST,) if stopped else ())
        if step in _LED_TO:
            return (why, *((_LED_TO[step],) if stopped else ()), *declared)
        return (why, *(declared or ((EXPECTED_COST,) if stopped else ())))


def rule_name(usecase: UseCase) -> str:
    """How the declared rule is called where a model's version would stand."""
    return f"rule:{usecase.fallback.name}"
