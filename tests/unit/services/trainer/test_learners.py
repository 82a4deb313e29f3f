"""What a model draws from each of its features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from services.trainer.learners import Fitted, Sample, fit_baseline, fit_trees

Fit = Callable[[Sample, Sample], Fitted]


def sample(seed: int, told_by: int | None) -> Sample:
    rng = np.random.default_rng(seed)
    rows = rng.lognormal(2, 1.5, (600, 3)).astype(np.float32)
    labels = rng.random(600) < 0.5 if told_by is None else rows[:, told_by] > 7
    return Sample(rows, labels)


@pytest.mark.parametrize("fit", [fit_baseline, fit_trees])
@pytest.mark.parametrize("told_by", [0, 2])
def test_the_feature_that_tells_the_labels_has_the_largest_share(fit: Fit, told_by: int) -> None:
    importance = fit(sample(1, told_by), sample(2, told_by)).importance()
    assert importance.shape == (3,)
    assert importance.sum() == pytest.approx(1)
    assert importance[told_by] > 0.8


def test_trees_that_never_split_draw_nothing() -> None:
    rows = np.zeros((200, 3), np.float32)
    same = Sample(rows, np.arange(200) % 2 == 0)
    assert fit_trees(same, same).importance().tolist() == [0, 0, 0]
