"""What a ranking declares, and what is refused where it is declared."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from flywheel.kernel import catalog
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.features import InvalidDeclaration
from flywheel.kernel.ranking import EpsilonGreedy, Filter, Ranking, Softmax

USECASE = catalog.load("fraud")


def _ranks(ranking: Ranking) -> UseCase:
    return dataclasses.replace(USECASE, policy=ranking)


def test_a_use_case_that_ranks_has_no_costs_and_says_so() -> None:
    assert USECASE.costs is USECASE.policy
    with pytest.raises(InvalidDeclaration, match="fraud ranks candidates"):
        assert _ranks(Ranking("terminal_id")).costs


@pytest.mark.parametrize(
    ("ranking", "complaint"),
    [
        (Ranking("shop_id"), "policy.candidate names 'shop_id'"),
        (Ranking("amount_cents"), "is no text"),
        (Ranking("event_id"), "every event's own"),
        (Ranking("terminal_id", filters=(Filter("few", "no_such_feature", at_least=1),)), "which is not a feature"),
        (Ranking("terminal_id", filters=(Filter("few", "amount_cents", at_least=2, at_most=1),)), "nobody pass"),
    ],
)
def test_what_does_not_fit_the_declaration_is_refused(ranking: Ranking, complaint: str) -> None:
    with pytest.raises(InvalidDeclaration, match=complaint):
        _ranks(ranking)


def test_words_that_mean_nothing_are_refused() -> None:
    for wrong in (lambda: EpsilonGreedy(0), lambda: EpsilonGreedy(1.1), lambda: Softmax(0), lambda: Ranking("x", 0)):
        with pytest.raises(InvalidDeclaration):
            wrong()
    with pytest.raises(InvalidDeclaration, match="'few', 'unknown'"):
        Ranking("x", filters=(Filter("few", "a"), Filter("few", "b"), Filter("unknown", "c")))


def test_a_filter_lets_its_bounds_pass_and_no_nan() -> None:
    values = np.array([0.9, 1.0, 2.0, 2.1, np.nan])
    assert Filter("f", "a", at_least=1, at_most=2).passes(values).tolist() == [False, True, True, False, False]


def test_a_bound_means_the_same_to_values_of_single_precision() -> None:
    assert Filter("f", "a", at_most=0.3).passes(np.array([0.3], np.float32)).all()
    assert Filter("f", "a", at_least=0.7).passes(np.array([0.7], np.float32)).all()
