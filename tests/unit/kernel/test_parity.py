"""Served features beside recomputed ones: what counts as equal, and which feature is worst."""

from __future__ import annotations

import numpy as np

from flywheel.kernel.parity import compare, least_equal

NAN, INF = float("nan"), float("inf")


def rows(*values: list[float]) -> np.ndarray:
    return np.array(values, np.float32)


def test_single_precision_makes_no_difference() -> None:
    exact = np.array([[1 / 3, 1e7 / 3]])
    (first, second) = compare(["a", "b"], exact.astype(np.float32), (exact * (1 + 1e-7)).astype(np.float32))
    assert (first.equal_share, second.equal_share) == (1.0, 1.0)
    assert first.worst == second.worst == 0.0


def test_the_worst_difference_is_told_with_its_row() -> None:
    served, recomputed = rows([1, 5], [2, 5], [3, 9]), rows([1, 5], [2, 7], [3, 4])
    same, differing = compare(["a", "b"], served, recomputed)
    assert (same.equal_share, same.rows) == (1.0, 3)
    assert (differing.equal_share, differing.worst, differing.worst_row) == (1 / 3, 5.0, 2)


def test_no_number_equals_no_number_and_nothing_else() -> None:
    both, one, endless = compare(["a", "b", "c"], rows([NAN, NAN, INF]), rows([NAN, 1, 1]))
    assert both.equal_share == 1.0
    assert (one.equal_share, one.worst) == (0.0, INF)
    assert (endless.equal_share, endless.worst) == (0.0, INF)


def test_the_least_equal_feature_is_that_with_the_smallest_share() -> None:
    served, recomputed = rows([0, 0, 0], [0, 0, 0]), rows([9, 1, 1], [0, 1, 2])
    found = least_equal(compare(["a", "b", "c"], served, recomputed))
    assert found is not None
    assert found.feature == "c"


def test_nothing_served_is_nothing_compared() -> None:
    parities = compare(["a"], np.empty((0, 1), np.float32), np.empty((0, 1), np.float32))
    assert [parity.rows for parity in parities] == [0]
    assert least_equal(parities) is None
