"""By how much each feature moves a model's answer: exact Shapley values of trees and of linear models.

Trees are explained along their paths: a feature that is not known sends a row down both branches, in proportion to
the training rows that took them (Lundberg et al. 2020, "path dependent"). A leaf of value v whose path asks d
different features is then a product game, in which feature i has o_i = 1 if the row passes all its questions on the
path, else 0, and z_i, the share of training rows that passed them. Its Shapley value is

    v (o_i - z_i) ∫₀¹ ∏_{j≠i} (z_j (1 - t) + o_j t) dt

a polynomial of degree d - 1 in t, which Gauss-Legendre quadrature with ⌈d/2⌉ nodes integrates exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_COVER_TOLERANCE = 1e-3
_LARGEST = float(np.finfo(np.float64).max)


class NotExplainable(Exception):
    """The model does not hold what an exact explanation needs."""


class Attribution(NamedTuple):
    """A model's answer in log-odds as a sum: `base`, what it says knowing nothing, and a part of each feature."""

    base: float
    contributions: Floats
    """Shape (features,), in the order of the model's inputs."""

    @property
    def margin(self) -> float:
        return self.base + float(self.contributions.sum())

    @property
    def score(self) -> float:
        """The probability that the log-odds stand for."""
        return float(1 / (1 + np.exp(-self.margin)))


@runtime_checkable
class Explaining(Protocol):
    """A scorer that can say how it came to a score."""

    def explain(self, row: NDArray[np.float32]) -> Attribution:
        """The score of one row, shape (features,), as a sum. Raises NotExplainable."""


class Attributor(Protocol):
    """Explains the answers of one model."""

    def attribute(self, row: NDArray[np.float32]) -> Attribution:
        """The answer to one row, shape (features,)."""


@dataclass(frozen=True)
class Trees:
    """The nodes of all trees, each tree's root before its other nodes; arrays of one shape (nodes,).

    A row whose `feature` is at most `threshold` goes to the node `left`, another to `right`, one without a value to
    the left where `absent_left`. Leaves have -1 for both. `cover`: training rows that came to the node.
    """

    left: Ints
    right: Ints
    feature: Ints
    threshold: Floats
    absent_left: Bools
    value: Floats
    cover: Floats

    @property
    def is_leaf(self) -> Bools:
        return self.left < 0


class TreeAttributor:
    """Explains `slope * (sum of the leaves a row comes to) + intercept`. Raises NotExplainable without sound covers."""

    def __init__(self, trees: Trees, features: int, *, slope: float = 1.0, intercept: float = 0.0) -> None:
        _check_covers(trees)
        self._features = features
        paths = _paths_of(trees, slope)
        self._groups = _groups(paths)
        self._base = intercept + paths.expectation

    def attribute(self, row: NDArray[np.float32]) -> Attribution:
        """The answer to one row, shape (features,)."""
        # An infinite value must pass where nothing is asked of that side.
        values = np.clip(row.astype(np.float64), -_LARGEST, _LARGEST)
        contributions = np.zeros(self._features)
        for group in self._groups:
            parts = group.contributions(values)
            contributions += np.bincount(group.feature.ravel(), parts.ravel(), self._features)
        return Attribution(self._base, contributions)


class LinearAttributor:
    """Explains `weights · squash(x) + intercept` against the means of `squash(x)` in training.

    >>> explained = LinearAttributor(np.array([2.0]), np.array([0.5]), intercept=1.0)
    >>> explained.attribute(np.array([np.nan], np.float32))
    Attribution(base=2.0, contributions=array([-1.]))
    """

    def __init__(self, weights: Floats, means: Floats, *, intercept: float) -> None:
        self._weights = weights
        self._means = means
        self._base = intercept + float(weights @ means)

    def attribute(self, row: NDArray[np.float32]) -> Attribution:
        """The answer to one row, shape (features,)."""
        filled = np.nan_to_num(row.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
        squashed = np.sign(filled) * np.log1p(np.abs(filled))
        return Attribution(self._base, self._weights * (squashed - self._means))


@dataclass(frozen=True)
class _Paths:
    """What each leaf asks of each different feature on its way: rows of (leaf, feature), sorted by leaf."""

    leaf: Ints
    """Which of the leaves, from 0."""
    feature: Ints
    above: Floats
    """A value passes when it is above this …"""
    at_most: Floats
    """… and at most this."""
    absent_passes: Bools
    share: Floats
    """Of the training rows, those that passed."""
    lengths: Ints
    """By leaf, how many different features it asks."""
    values: Floats
    """By leaf."""
    expectation: float


@dataclass(frozen=True)
class _Group:
    """The paths of all leaves that ask the same number of features d; arrays of shape (d, leaves)."""

    feature: Ints
    above: Floats
    at_most: Floats
    absent_passes: Bools
    share: Floats
    values: Floats
    """Shape (leaves,)."""
    nodes: Floats
    weights: Floats
    """Of the quadrature, shape (⌈d/2⌉, 1)."""

    def contributions(self, row: Floats) -> Floats:
        """Each leaf's part in the contribution of each of its features, shape (d, leaves)."""
        asked = row[self.feature]
        passed = ((asked > self.above) & (asked <= self.at_most)) | (np.isnan(asked) & self.absent_passes)
        moved = passed - self.share
        # Shape (d, nodes, leaves): one feature's factor of the product at each node of the quadrature.
        factors = self.share[:, None, :] + self.nodes * moved[:, None, :]
        product = self.weights * self.values * np.multiply.reduce(factors, axis=0)
        np.divide(product, factors, out=factors)
        return np.asarray(moved * factors.sum(axis=1))


def _check_covers(trees: Trees) -> None:
    inner = ~trees.is_leaf
    left, right = trees.cover[trees.left[inner]], trees.cover[trees.right[inner]]
    if not ((left > 0).all() and (right > 0).all()):
        raise NotExplainable("the model does not say how many training rows came to its nodes")
    if not np.allclose(trees.cover[inner], left + right, rtol=_COVER_TOLERANCE):
        raise NotExplainable("the training rows at the model's nodes do not add up")


def _paths_of(trees: Trees, slope: float) -> _Paths:
    """Walks up from all leaves at once."""
    inner = np.flatnonzero(~trees.is_leaf)
    parent = np.full(len(trees.left), -1, np.int64)
    parent[trees.left[inner]] = inner
    parent[trees.right[inner]] = inner
    leaves = np.flatnonzero(trees.is_leaf)
    leaf, below = np.arange(len(leaves)), leaves
    steps: list[tuple[NDArray[np.generic], ...]] = []
    while len(below):
        above = parent[below]
        leaf, below, above = leaf[above >= 0], below[above >= 0], above[above >= 0]
        went_left = trees.left[above] == below
        threshold = trees.threshold[above]
        steps.append(
            (
                leaf,
                trees.feature[above],
                np.where(went_left, -np.inf, threshold),
                np.where(went_left, threshold, np.inf),
                trees.absent_left[above] == went_left,
                trees.cover[below] / trees.cover[above],
            )
        )
        below = above
    return _merged(steps, slope * trees.value[leaves])


def _merged(steps: list[tuple[NDArray[np.generic], ...]], values: Floats) -> _Paths:
    """One row for all questions of a path about the same feature."""
    leaf, feature, above, at_most, absent, share = (np.concatenate(column) for column in zip(*steps, strict=True))
    # One key, because a stable sort of numbers that are nearly in order takes a quarter of the time of two sorts.
    order = np.argsort(leaf * (feature.max(initial=0) + 1) + feature, kind="stable")
    leaf, feature = leaf[order], feature[order]
    starts = np.flatnonzero(np.r_[True, (leaf[1:] != leaf[:-1]) | (feature[1:] != feature[:-1])][: len(leaf)])
    if not len(starts):
        nothing = np.zeros(len(values), np.int64)
        return _Paths(leaf, feature, above, at_most, absent, share, nothing, values, float(values.sum()))
    shares = np.multiply.reduceat(share[order], starts)
    reached = np.ones(len(values))
    np.multiply.at(reached, leaf[starts], shares)
    return _Paths(
        leaf=leaf[starts],
        feature=feature[starts],
        above=np.maximum.reduceat(above[order], starts),
        at_most=np.minimum.reduceat(at_most[order], starts),
        absent_passes=np.logical_and.reduceat(absent[order], starts),
        share=shares,
        lengths=np.bincount(leaf[starts], minlength=len(values)),
        values=values,
        expectation=float(values @ reached),
    )


def _groups(paths: _Paths) -> list[_Group]:
    """The leaves that ask anything, by how many different features they ask."""
    # The rows of a leaf lie together.
    first = np.cumsum(paths.lengths) - paths.lengths
    counts = np.bincount(paths.lengths)
    leaves = np.split(np.argsort(paths.lengths, kind="stable"), np.cumsum(counts)[:-1])
    return [_group(paths, first, leaves[length]) for length in np.flatnonzero(counts).tolist() if length]


def _group(paths: _Paths, first: Ints, leaves: Ints) -> _Group:
    length = int(paths.lengths[leaves[0]])
    rows = first[leaves] + np.arange(length)[:, None]
    nodes, weights = _quadrature((length + 1) // 2)
    return _Group(
        feature=paths.feature[rows],
        above=paths.above[rows],
        at_most=paths.at_most[rows],
        absent_passes=paths.absent_passes[rows],
        share=paths.share[rows],
        values=paths.values[leaves],
        nodes=nodes,
        weights=weights,
    )


@cache
def _quadrature(points: int) -> tuple[Floats, Floats]:
    """Nodes and weights of Gauss and Legendre on [0, 1], each of shape (points, 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    return (nodes[:, None] + 1) / 2, weights[:, None] / 2
