"""Chooses what to do about a subject: the action of least expected cost."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from flywheel.kernel.declaration import CostPolicy


class Action(StrEnum):
    """What can be done, least intrusive first; among equal costs the earlier one is taken."""

    APPROVE = "approve"
    STEP_UP = "step_up"
    DECLINE = "decline"


def expected_costs(policy: CostPolicy, score: float, amount: float) -> dict[Action, float]:
    """What each action is expected to cost, in the unit of `amount`, when the subject is bad with probability `score`.

    >>> from flywheel.kernel.declaration import CostPolicy
    >>> policy = CostPolicy("amount", 0.05, 1_000, 40, step_up_catches=0.85, loss_overhead=1_500)
    >>> [round(cost) for cost in expected_costs(policy, 0.1, 10_000).values()]
    [1150, 213, 1350]
    """
    loss = score * (amount + policy.loss_overhead)
    return {
        Action.APPROVE: loss,
        Action.STEP_UP: policy.step_up_cost + (1 - policy.step_up_catches) * loss,
        Action.DECLINE: (1 - score) * (policy.decline_cost + policy.decline_cost_share * amount),
    }


def choose(costs: Mapping[Action, float]) -> Action:
    """The cheapest action.

    >>> choose({Action.APPROVE: 5.0, Action.STEP_UP: 5.0, Action.DECLINE: 7.0})
    <Action.APPROVE: 'approve'>
    """
    return min(Action, key=costs.__getitem__)


def cheapest(policy: CostPolicy, score: float, amount: float) -> Action:
    """`choose(expected_costs(...))`, for a decision has better to do than to fill a table."""
    approve = score * (amount + policy.loss_overhead)
    step_up = policy.step_up_cost + (1 - policy.step_up_catches) * approve
    decline = (1 - score) * (policy.decline_cost + policy.decline_cost_share * amount)
    if approve <= step_up:
        return Action.APPROVE if approve <= decline else Action.DECLINE
    return Action.STEP_UP if step_up <= decline else Action.DECLINE
