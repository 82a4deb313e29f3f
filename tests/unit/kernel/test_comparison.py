"""Two models on the same rows: chance keeps nobody out, being worse does."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from flywheel.kernel.comparison import highest_lead
from flywheel.kernel.evaluation import average_precision

ROWS, POSITIVES = 4_000, 120
LABELS = np.arange(ROWS) < POSITIVES


def scores(seed: int, *, separation: float = 2.0, noise: float = 0.0) -> NDArray[np.float64]:
    """Scores that hold the same truth in every call, and noise of their own."""
    truth = np.random.default_rng(7).normal(size=ROWS) + separation * LABELS
    return truth + noise * np.random.default_rng(seed).normal(size=ROWS)


def test_the_same_model_is_never_behind_itself() -> None:
    assert highest_lead(LABELS, scores(1), scores(1), seed=1) == 0.0


def test_equally_good_models_are_seldom_told_apart() -> None:
    pairs = [(scores(seed, noise=0.3), scores(1_000 + seed, noise=0.3)) for seed in range(40)]
    behind = sum(average_precision(LABELS, ours) < average_precision(LABELS, theirs) for ours, theirs in pairs)
    beyond_chance = sum(highest_lead(LABELS, ours, theirs, seed=3) < 0 for ours, theirs in pairs)
    assert behind > 10
    assert beyond_chance < 6


def test_a_clearly_worse_model_is_behind_and_a_better_one_is_not() -> None:
    good, bad = scores(1, noise=0.1), scores(2, noise=1.5)
    assert highest_lead(LABELS, bad, good, seed=3) < 0
    assert highest_lead(LABELS, good, bad, seed=3) > 0


def test_a_whole_draw_measures_what_average_precision_does() -> None:
    """Both models alike but for ties: what is drawn differs from 0 as the measured precision does."""
    tied = np.round(scores(1, noise=0.5))
    lead = highest_lead(LABELS, tied, scores(1, noise=0.5), seed=3)
    measured = average_precision(LABELS, tied) - average_precision(LABELS, scores(1, noise=0.5))
    assert measured < lead < measured + 0.1


def test_the_seed_alone_decides() -> None:
    pair = scores(1, noise=0.3), scores(2, noise=0.3)
    assert highest_lead(LABELS, *pair, seed=3) == highest_lead(LABELS, *pair, seed=3)
    assert highest_lead(LABELS, *pair, seed=3) != highest_lead(LABELS, *pair, seed=4)


@pytest.mark.parametrize("labels", [np.zeros(ROWS, bool), np.ones(ROWS, bool), np.zeros(0, bool)])
def test_without_both_kinds_there_is_no_answer(labels: NDArray[np.bool_]) -> None:
    assert np.isnan(highest_lead(labels, scores(1)[: labels.size], scores(2)[: labels.size], seed=1))


def test_a_score_that_is_no_number_is_no_answer() -> None:
    damaged = scores(1)
    damaged[5] = np.nan
    assert np.isnan(highest_lead(LABELS, damaged, scores(1), seed=1))
    assert np.isnan(highest_lead(LABELS, scores(1), damaged, seed=1))


def test_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="4000 labels"):
        highest_lead(LABELS, scores(1), scores(1)[1:], seed=1)
