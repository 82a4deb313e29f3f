"""How far scores are from being probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def expected_calibration_error(labels: ArrayLike, scores: ArrayLike, bins: int = 15) -> float:
    """Mean distance between score and share of positives over equally filled bins; NaN without rows.

    >>> expected_calibration_error([0, 1, 0, 1], [0.5, 0.5, 0.25, 0.75], bins=1)
    0.0
    """
    label, score = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if not label.size:
        return float("nan")
    return float(sum(abs(label[part].sum() - score[part].sum()) for part in _parts(score, bins)) / label.size)


def excess_calibration_error(labels: ArrayLike, scores: ArrayLike, bins: int = 15) -> float:
    """The expected calibration error beyond what sampling alone gives a perfectly calibrated model; at least 0.

    With labels drawn from the scores themselves a bin's distance is about half-normal: its mean is
    `sqrt(2 / pi * sum of p (1 - p))` over the bin's rows.

    >>> excess_calibration_error([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], bins=1)
    0.0
    """
    score = np.asarray(scores, dtype=np.float64)
    if not score.size:
        return float("nan")
    spreads = (np.sqrt(2 / np.pi * np.sum(score[part] * (1 - score[part]))) for part in _parts(score, bins))
    return max(0.0, expected_calibration_error(labels, score, bins) - float(sum(spreads)) / score.size)


def _parts(score: NDArray[np.float64], bins: int) -> list[NDArray[np.int64]]:
    order = np.argsort(score, kind="stable")
    return np.array_split(order, min(bins, score.size))


def observed_to_expected(labels: ArrayLike, scores: ArrayLike) -> float:
    """Positives that came over positives that the scores promised; 1 is calibrated, NaN when none were promised.

    >>> observed_to_expected([1, 0, 1, 0], [0.25, 0.25, 0.25, 0.25])
    2.0
    """
    promised = float(np.sum(np.asarray(scores, dtype=np.float64)))
    return float(np.sum(np.asarray(labels, dtype=np.float64))) / promised if promised > 0 else float("nan")
