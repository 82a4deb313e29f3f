"""The action taken is never dearer than another one, and agrees with what decisions cost in hindsight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.kernel.declaration import CostPolicy
from flywheel.kernel.evaluation import realised_cost
from flywheel.kernel.policy import Action, choose, expected_costs
from tests.serving_parts import USECASE

POLICY = USECASE.costs
policies = st.builds(
    CostPolicy,
    amount_field=st.just("amount"),
    decline_cost_share=st.floats(0, 1),
    decline_cost=st.floats(0, 10_000),
    step_up_cost=st.floats(0, 1_000),
    step_up_catches=st.floats(0, 1),
    loss_overhead=st.floats(0, 10_000),
)


@given(policies, st.floats(0, 1), st.floats(0, 1e8))
def test_no_action_is_cheaper_than_the_one_taken(policy: CostPolicy, score: float, amount: float) -> None:
    costs = expected_costs(policy, score, amount)
    assert costs[choose(costs)] == min(costs.values())


@given(policies, st.floats(0, 1), st.floats(0, 1e8), st.sampled_from(list(Action)))
def test_expected_cost_is_the_mean_of_what_good_and_bad_subjects_cost(
    policy: CostPolicy, score: float, amount: float, action: Action
) -> None:
    good, bad = realised_cost(
        policy,
        labels=[0, 1],
        amounts=[amount, amount],
        declined=np.full(2, action is Action.DECLINE),
        stepped_up=np.full(2, action is Action.STEP_UP),
    )
    expected = (1 - score) * good + score * bad
    assert expected_costs(policy, score, amount)[action] == pytest.approx(expected, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(
    ("score", "amount", "action"),
    [
        (0.0, 5_000, Action.APPROVE),
        # Stepping up pays from 40 / (0.85 * (amount + 1500)) on.
        (0.007, 5_000, Action.APPROVE),
        (0.008, 5_000, Action.STEP_UP),
        (0.9, 5_000, Action.DECLINE),
        (1.0, 1, Action.DECLINE),
    ],
)
def test_thresholds_of_the_fraud_policy(score: float, amount: float, action: Action) -> None:
    assert choose(expected_costs(POLICY, score, amount)) is action


def test_the_least_intrusive_action_wins_a_tie() -> None:
    assert choose(dict.fromkeys(Action, 1.0)) is Action.APPROVE
    assert choose({Action.APPROVE: 2.0, Action.STEP_UP: 1.0, Action.DECLINE: 1.0}) is Action.STEP_UP
