"""Whether one model is worse than another beyond chance, told from the same rows scored by both."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
"""One-sided."""
_RESAMPLES = 400

_Weights = NDArray[np.int64]


def highest_lead(labels: ArrayLike, candidate: ArrayLike, rival: ArrayLike, *, seed: int) -> float:
    """The most that the candidate's average precision may be above the rival's; below 0, it is worse beyond chance.

    That is the upper bound, one-sided at `CONFIDENCE`, of a paired bootstrap: rows are drawn again, positives and
    negatives each in their number, and both models are measured on the same draws. Models that order the rows alike
    differ by 0 in every draw. NaN without rows of both kinds or with a score that is no number. Raises ValueError
    when the lengths differ.

    >>> highest_lead([0, 1, 0, 1], [0.1, 0.9, 0.2, 0.8], [0.2, 0.9, 0.1, 0.8], seed=1)
    0.0
    """
    positive = np.asarray(labels, dtype=bool)
    scores = [np.asarray(each, dtype=np.float64) for each in (candidate, rival)]
    if any(each.shape != positive.shape for each in scores):
        raise ValueError(f"{positive.size} labels for {scores[0].size} and {scores[1].size} scores")
    if not positive.any() or positive.all() or not all(np.isfinite(each).all() for each in scores):
        return float("nan")
    precision, rivals = (_precision_by_weights(positive, each) for each in scores)
    rng = np.random.default_rng(seed)
    draws = (_draw(positive, rng) for _ in range(_RESAMPLES))
    return float(np.quantile([precision(weights) - rivals(weights) for weights in draws], CONFIDENCE))


def _draw(positive: NDArray[np.bool_], rng: np.random.Generator) -> _Weights:
    """How often each row is drawn."""
    weights = np.zeros(positive.size, np.int64)
    for kind in (np.flatnonzero(positive), np.flatnonzero(~positive)):
        weights[kind] = np.bincount(rng.integers(kind.size, size=kind.size), minlength=kind.size)
    return weights


def _precision_by_weights(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> Callable[[_Weights], float]:
    """Average precision as a function of how often each row counts; the rows are put in order once."""
    order = np.argsort(-scores, kind="stable")
    hit = positive[order]
    step_ends = np.append(np.flatnonzero(np.diff(scores[order])), scores.size - 1)

    def measure(weights: _Weights) -> float:
        counted = weights[order]
        hits = np.cumsum(counted * hit)[step_ends]
        flagged = np.cumsum(counted)[step_ends]
        precision = hits / np.maximum(flagged, 1)
        return float(np.sum(precision * np.diff(hits, prepend=0)) / hits[-1])

    return measure
