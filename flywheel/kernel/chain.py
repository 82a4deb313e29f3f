"""A model and what corrects its scores, as one scorer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.ports import Scorer


class Chain:
    """The first scorer takes the features, each further one the score before it, as a column."""

    def __init__(self, first: Scorer, corrections: Sequence[Scorer]) -> None:
        self._first = first
        self._corrections = tuple(corrections)

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """The last score for each row; shape (n, features) to (n,)."""
        scores = self._first.score(rows)
        for correction in self._corrections:
            scores = correction.score(scores.astype(np.float32).reshape(-1, 1))
        return scores
