"""Confidence intervals of how B differs from A.

Of runs in turns: Student's t on the logarithms of the pairs' ratios, because what disturbs one run of a pair (a warmer
machine, a fuller log) disturbs the other alike, and only whole runs vary as whole runs do (Georges, Buytaert and
Eeckhout, "Statistically rigorous Java performance evaluation", OOPSLA 2007; Kalibera and Jones, "Rigorous benchmarking
in reasonable time", ISMM 2013).

Of two single runs: the standard error of each by circular block bootstrap over its seconds (Politis and Romano, 1992),
which keeps neighbouring seconds together because they are alike, and Student's t with Welch's degrees of freedom,
because a run has few blocks. It knows nothing of how one run differs from the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, exp, log, sqrt
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

CONFIDENCE = 0.95
_RESAMPLES = 400
_FEWEST_BLOCKS = 2


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its confidence interval; not numbers where there is too little to say."""

    estimate: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Whether the interval rules a value out."""
        return value < self.low or value > self.high


Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From counts summed over seconds, shape (resamples, columns), to one number a resample."""


def ratio_of_pairs(a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """B over A, of runs that were made in pairs; values must be positive. One pair has no interval.

    >>> found = ratio_of_pairs([10.0, 20.0, 40.0], [11.0, 22.0, 44.0])
    >>> round(found.estimate, 6), round(found.low, 6), round(found.high, 6)
    (1.1, 1.1, 1.1)
    """
    found = _mean_of([log(there / here) for here, there in zip(a, b, strict=True)], confidence)
    return Interval(exp(found.estimate), exp(found.low), exp(found.high))


def difference_of_pairs(a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """B less A, of runs that were made in pairs. For shares, which may be zero."""
    return _mean_of([there - here for here, there in zip(a, b, strict=True)], confidence)


def ratio_of_runs(
    a: NDArray[np.float64], b: NDArray[np.float64], statistic: Statistic, seed: int, confidence: float = CONFIDENCE
) -> Interval:
    """B over A, of one run each: counts by second, shape (seconds, columns). The statistic must be positive."""

    def logarithm(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            found: NDArray[np.float64] = np.log(statistic(counts))
        return found

    found = difference_of_runs(a, b, logarithm, seed, confidence)
    return Interval(exp(found.estimate), exp(found.low), exp(found.high))


def difference_of_runs(
    a: NDArray[np.float64], b: NDArray[np.float64], statistic: Statistic, seed: int, confidence: float = CONFIDENCE
) -> Interval:
    """B less A, of one run each: counts by second, shape (seconds, columns)."""
    rng = np.random.default_rng(seed)
    (there,), (here,) = (statistic(each.sum(axis=0, keepdims=True)) for each in (b, a))
    estimate = float(there - here)
    blocks = [len(each) / _block_length(len(each)) for each in (a, b)]
    if min(blocks) < _FEWEST_BLOCKS:
        return Interval(estimate, float("nan"), float("nan"))
    variances = [
        _variance(statistic(_resampled(each, rng)), number) for each, number in zip((a, b), blocks, strict=True)
    ]
    whole = sum(variances)
    if not whole:
        return Interval(estimate, estimate, estimate)
    freedom = whole**2 / sum(each**2 / (number - 1) for each, number in zip(variances, blocks, strict=True))
    reach = float(student.ppf((1 + confidence) / 2, freedom)) * sqrt(whole)
    return Interval(estimate, estimate - reach, estimate + reach)


def _mean_of(values: Sequence[float], confidence: float) -> Interval:
    middle = fmean(values)
    if len(values) < 2:
        return Interval(middle, float("nan"), float("nan"))
    reach = float(student.ppf((1 + confidence) / 2, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return Interval(middle, middle - reach, middle + reach)


def _variance(resampled: NDArray[np.float64], blocks: float) -> float:
    """Of the statistic; resampling so few blocks sees a little less of it than there is."""
    return float(np.nanvar(resampled)) * blocks / (blocks - 1)


def _block_length(seconds: int) -> int:
    return ceil(sqrt(seconds))


def _resampled(counts: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Sums over as many seconds as there are, drawn in circular blocks."""
    seconds = len(counts)
    length = _block_length(seconds)
    starts = rng.integers(0, seconds, (_RESAMPLES, ceil(seconds / length)))
    chosen = ((starts[:, :, None] + np.arange(length)) % seconds).reshape(_RESAMPLES, -1)[:, :seconds]
    weights = np.zeros((_RESAMPLES, seconds))
    np.add.at(weights, (np.arange(_RESAMPLES)[:, None], chosen), 1.0)
    return weights @ counts
