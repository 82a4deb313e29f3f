"""Contributions are Shapley values: checked against their definition, feature set by feature set."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from flywheel.kernel.attribution import LinearAttributor, NotExplainable, TreeAttributor, Trees

FEATURES = 4


def grown(draw: np.random.Generator, depth: int) -> Trees:
    """A random tree that may ask about a feature several times."""
    nodes: list[list[float]] = []

    def grow(depth: int, cover: float) -> int:
        place = len(nodes)
        nodes.append([-1, -1, 0, 0.0, 0, 0.0, cover])
        if depth and draw.random() < 0.85:
            left = float(draw.integers(1, int(cover))) if cover > 1 else 0.0
            if left:
                children = grow(depth - 1, left), grow(depth - 1, cover - left)
                nodes[place][:5] = [*children, int(draw.integers(FEATURES)), draw.normal(), int(draw.integers(2))]
                return place
        nodes[place][5] = draw.normal()
        return place

    grow(depth, 1_000.0)
    columns = np.array(nodes).T
    left, right, feature = (column.astype(np.int64) for column in columns[:3])
    return Trees(left, right, feature, columns[3], columns[4].astype(bool), columns[5], columns[6])


def expected(trees: Trees, row: NDArray[np.float64], known: frozenset[int], node: int = 0) -> float:
    """The tree's answer when only some features are known; the definition of the game."""
    left, right = int(trees.left[node]), int(trees.right[node])
    if left < 0:
        return float(trees.value[node])
    feature = int(trees.feature[node])
    if feature in known:
        value = row[feature]
        goes_left = trees.absent_left[node] if math.isnan(value) else value <= trees.threshold[node]
        return expected(trees, row, known, left if goes_left else right)
    share = float(trees.cover[left] / trees.cover[node])
    return share * expected(trees, row, known, left) + (1 - share) * expected(trees, row, known, right)


def shapley(trees: Trees, row: NDArray[np.float64], feature: int) -> float:
    others = [other for other in range(FEATURES) if other != feature]
    total = 0.0
    for size in range(FEATURES):
        weight = math.factorial(size) * math.factorial(FEATURES - size - 1) / math.factorial(FEATURES)
        for some in map(frozenset, combinations(others, size)):
            total += weight * (expected(trees, row, some | {feature}) - expected(trees, row, some))
    return total


@pytest.mark.parametrize("seed", range(20))
def test_contributions_are_shapley_values(seed: int) -> None:
    draw = np.random.default_rng(seed)
    trees = grown(draw, depth=6)
    row = draw.normal(size=FEATURES).astype(np.float32)
    row[draw.random(FEATURES) < 0.2] = draw.choice([np.nan, np.inf, -np.inf])
    explained = TreeAttributor(trees, FEATURES).attribute(row)
    wide = row.astype(np.float64)
    assert explained.base == pytest.approx(expected(trees, wide, frozenset()), abs=1e-12)
    assert explained.contributions == pytest.approx([shapley(trees, wide, each) for each in range(FEATURES)], abs=1e-12)
    assert explained.margin == pytest.approx(expected(trees, wide, frozenset(range(FEATURES))), abs=1e-12)


def test_slope_and_intercept_scale_and_shift_the_answer() -> None:
    trees = grown(np.random.default_rng(3), depth=5)
    row = np.zeros(FEATURES, np.float32)
    plain = TreeAttributor(trees, FEATURES).attribute(row)
    scaled = TreeAttributor(trees, FEATURES, slope=2.0, intercept=-1.0).attribute(row)
    assert scaled.base == pytest.approx(2 * plain.base - 1)
    assert scaled.contributions == pytest.approx(2 * plain.contributions)


def test_a_tree_of_one_leaf_is_all_base() -> None:
    nothing = np.array([-1])
    leaf = Trees(nothing, nothing, np.array([0]), np.zeros(1), np.array([False]), np.array([0.25]), np.zeros(1))
    explained = TreeAttributor(leaf, FEATURES).attribute(np.zeros(FEATURES, np.float32))
    assert (explained.base, explained.contributions.tolist()) == (0.25, [0.0] * FEATURES)


@pytest.mark.parametrize("cover", [[10.0, 0.0, 10.0], [0.0, 0.0, 0.0], [10.0, 4.0, 4.0]])
def test_a_tree_without_sound_covers_is_not_explained(cover: list[float]) -> None:
    trees = Trees(
        np.array([1, -1, -1]),
        np.array([2, -1, -1]),
        np.array([0, 0, 0]),
        np.zeros(3),
        np.zeros(3, bool),
        np.array([0.0, -1.0, 1.0]),
        np.array(cover),
    )
    with pytest.raises(NotExplainable):
        TreeAttributor(trees, FEATURES)


def test_a_linear_model_moves_by_the_distance_from_the_mean() -> None:
    explained = LinearAttributor(np.array([2.0, -1.0]), np.array([1.0, 0.0]), intercept=0.5)
    answer = explained.attribute(np.array([np.e - 1, 0.0], np.float32))
    assert answer.base == 2.5
    assert answer.contributions == pytest.approx([0.0, 0.0], abs=1e-6)
    assert answer.score == pytest.approx(1 / (1 + np.exp(-2.5)), abs=1e-6)
