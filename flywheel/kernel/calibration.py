"""How far scores are from being probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def expected_calibration_error(labels: ArrayLike, scores: ArrayLike, bins: int = 15) -> float:
    """Mean distance between score and share of positives over equally filled bins; NaN without rows.

    >>> expected_calibration_error([0, 1, 0, 1], [0.5, 0.5, 0.25, 0.75], bins=1)
    0.0
    """
    label, score = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if not label.size:
        return float("nan")
    order = np.argsort(score, kind="stable")
    parts = np.array_split(order, min(bins, label.size))
    return float(sum(abs(label[part].sum() - score[part].sum()) for part in parts) / label.size)


def observed_to_expected(labels: ArrayLike, scores: ArrayLike) -> float:
    """Positives that came over positives that the scores promised; 1 is calibrated, NaN when none were promised.

    >>> observed_to_expected([1, 0, 1, 0], [0.25, 0.25, 0.25, 0.25])
    2.0
    """
    promised = float(np.sum(np.asarray(scores, dtype=np.float64)))
    return float(np.sum(np.asarray(labels, dtype=np.float64))) / promised if promised > 0 else float("nan")
