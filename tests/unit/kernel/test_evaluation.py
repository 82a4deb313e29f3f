"""Quality measures against scikit-learn, against hand-made cases, and the cost of decisions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from flywheel.kernel.declaration import CostPolicy
from flywheel.kernel.evaluation import (
    auc_standard_error,
    average_precision,
    card_precision_at_k,
    confusion,
    realised_cost,
    roc_auc,
    saved,
)
from flywheel.kernel.policy import Action, choose, expected_costs

POLICY = CostPolicy(
    amount_field="amount_cents",
    decline_cost_share=0.05,
    decline_cost=1_000,
    step_up_cost=40,
    step_up_catches=0.85,
    loss_overhead=1_500,
)
# Few distinct scores, so that ties are the rule.
_scored = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=60).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


@given(_scored)
def test_auc_and_average_precision_are_those_of_scikit_learn(rows: list[tuple[bool, int]]) -> None:
    labels, scores = [label for label, _ in rows], [score / 7 for _, score in rows]
    assert roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    assert average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores))


def test_without_both_kinds_nothing_is_said() -> None:
    assert math.isnan(roc_auc([1, 1], [0.1, 0.2]))
    assert math.isnan(roc_auc([], []))
    assert math.isnan(average_precision([0, 0], [0.1, 0.2]))


def test_unequal_lengths_and_nan_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="2 labels for 1 scores"):
        roc_auc([0, 1], [0.5])
    with pytest.raises(ValueError, match="NaN"):
        average_precision([0, 1], [0.5, math.nan])
    with pytest.raises(ValueError, match="1 labels for 2 decisions"):
        confusion([1], [1, 0])


def test_the_standard_error_of_an_auc_is_its_spread_over_samples() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([True, False], [40, 400])
    found = [roc_auc(labels, rng.exponential(size=440) * np.where(labels, 3, 1)) for _ in range(800)]
    assert auc_standard_error(float(np.mean(found)), 40, 400) == pytest.approx(np.std(found), rel=0.15)


def test_confusion_counts_and_its_ratios() -> None:
    table = confusion([1, 1, 0, 0, 0], [1, 0, 1, 0, 0])
    assert (table.true_positive, table.false_positive, table.false_negative, table.true_negative) == (1, 1, 1, 2)
    assert (table.precision, table.recall) == (0.5, 0.5)
    nothing = confusion([0], [0])
    assert math.isnan(nothing.precision)
    assert math.isnan(nothing.recall)


def test_card_precision_takes_each_card_once_a_day_by_its_highest_score() -> None:
    days = [1, 1, 1, 1, 2, 2]
    cards = ["a", "a", "b", "c", "a", "b"]
    scores = [0.9, 0.8, 0.7, 0.1, 0.2, 0.6]
    labels = [0, 1, 0, 1, 0, 1]
    # Day 1: a (bad once) and b; day 2: b (bad) and a.
    assert card_precision_at_k(days, cards, scores, labels, 2) == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert card_precision_at_k(days, cards, scores, labels, 1) == pytest.approx(1.0)


def test_card_precision_counts_places_that_no_card_fills() -> None:
    assert card_precision_at_k([1], ["a"], [0.9], [1], 4) == 0.25


def test_card_precision_agrees_with_a_plain_loop() -> None:
    rng = np.random.default_rng(2)
    days, cards = rng.integers(0, 5, 2_000), rng.integers(0, 80, 2_000)
    scores, labels = rng.random(2_000), rng.random(2_000) < 0.1
    shares = []
    for day in range(5):
        best = {c: max(scores[(days == day) & (cards == c)]) for c in set(cards[days == day])}
        top = sorted(best, key=lambda c: -best[c])[:10]
        shares.append(np.mean([labels[(days == day) & (cards == c)].any() for c in top]))
    assert card_precision_at_k(days, cards, scores, labels, 10) == pytest.approx(np.mean(shares))


def test_card_precision_needs_places_and_days() -> None:
    assert math.isnan(card_precision_at_k([], [], [], [], 3))
    with pytest.raises(ValueError, match="at least 1"):
        card_precision_at_k([1], [1], [0.5], [1], 0)


def test_what_each_decision_cost() -> None:
    costs = realised_cost(
        POLICY,
        labels=[1, 0, 1, 0, 1, 0],
        amounts=[10_000] * 6,
        declined=[0, 0, 1, 1, 0, 0],
        stepped_up=[0, 0, 0, 0, 1, 1],
    )
    assert costs.tolist() == pytest.approx([11_500, 0, 0, 1_500, 40 + 0.15 * 11_500, 40])


def test_saved_is_measured_against_approving() -> None:
    gained = saved(POLICY, labels=[1, 0, 1], amounts=[10_000] * 3, declined=[1, 1, 0], stepped_up=[0, 0, 0])
    assert gained.tolist() == pytest.approx([11_500, -1_500, 0])


def test_realised_costs_are_on_average_the_expected_ones_of_the_policy() -> None:
    rng = np.random.default_rng(3)
    labels = rng.random(200_000) < 0.2
    expected = expected_costs(POLICY, 0.2, 8_000)
    for action in Action:
        realised = realised_cost(
            POLICY,
            labels=labels,
            amounts=np.full(labels.size, 8_000.0),
            declined=np.full(labels.size, action is Action.DECLINE),
            stepped_up=np.full(labels.size, action is Action.STEP_UP),
        )
        assert realised.mean() == pytest.approx(expected[action], rel=0.02)
    assert choose(expected) is Action.STEP_UP
