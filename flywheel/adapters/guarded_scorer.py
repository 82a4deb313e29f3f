"""A model behind a circuit breaker: one that fails or hangs again and again costs a run now and then, not every one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.attribution import Attribution, Explaining, NotExplainable
from flywheel.kernel.breaker import CircuitBreaker
from flywheel.kernel.ports import Scorer

_FAILURES_TO_OPEN = 3
_FAILING_OVER_S = 0.1
_RETRY_AFTER_S = 1.0
_ROWS = 100


class ModelAway(Exception):
    """The model is not asked, because it has failed too often."""


class GuardedScorer:
    """The scorer, refusing at once while it does nothing but fail; it is tried again once a second.

    A run fails by an error, by a score that is no number, or by taking longer than `patience_s` for each hundred rows:
    whatever waited for it then comes too late.
    """

    def __init__(self, scorer: Scorer, *, patience_s: float, steady_s: Callable[[], float]) -> None:
        self._scorer = scorer
        self._patience_s = patience_s
        self._steady_s = steady_s
        self._breaker = CircuitBreaker(_FAILURES_TO_OPEN, _FAILING_OVER_S, _RETRY_AFTER_S)

    @property
    def is_open(self) -> bool:
        return self._breaker.is_open

    @property
    def behind(self) -> Scorer:
        """The scorer itself."""
        return self._scorer

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """As the scorer behind it; ModelAway at once while the breaker is open."""
        began_s = self._steady_s()
        if not self._breaker.admits(began_s):
            raise ModelAway("the model has failed again and again and is not asked")
        try:
            scores = self._scorer.score(rows)
        except Exception:
            self._breaker.failed(self._steady_s())
            raise
        ended_s = self._steady_s()
        patience_s = self._patience_s * max(1, len(rows) / _ROWS)
        if ended_s - began_s <= patience_s and np.isfinite(scores).all():
            self._breaker.succeeded()
        else:
            self._breaker.failed(ended_s)
        return scores

    def explain(self, row: NDArray[np.float32]) -> Attribution:
        """As the scorer behind it. Raises NotExplainable when that cannot."""
        if not isinstance(self._scorer, Explaining):
            raise NotExplainable("the model is a chain of several")
        return self._scorer.explain(row)
