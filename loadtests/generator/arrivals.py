"""When requests are sent: a schedule that is fixed before the first of them, and waits for nobody."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Schedule = NDArray[np.float64]
"""Seconds after the start, ascending, one entry a request."""


def constant(rate_per_s: float, seconds: float) -> Schedule:
    """Evenly spaced arrivals.

    >>> constant(4, 1).tolist()
    [0.0, 0.25, 0.5, 0.75]
    """
    return np.arange(round(rate_per_s * seconds), dtype=np.float64) / rate_per_s


def poisson(rate_per_s: float, seconds: float, seed: int) -> Schedule:
    """Arrivals of callers that know nothing of each other: as many as expected, at independent moments."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.uniform(0.0, seconds, round(rate_per_s * seconds)))


def steps(rates_per_s: list[tuple[float, float]], seed: int) -> Schedule:
    """Poisson arrivals at one rate after another; each a pair of requests a second and seconds."""
    parts, start_s = [], 0.0
    for number, (rate_per_s, seconds) in enumerate(rates_per_s):
        parts.append(start_s + poisson(rate_per_s, seconds, seed + number))
        start_s += seconds
    return np.concatenate(parts)


def recorded(moments_s: NDArray[np.float64], rate_per_s: float, seconds: float) -> Schedule:
    """Arrivals that follow each other as the recorded ones, faster or slower so that their mean rate is the given one.

    `moments_s`: ascending. A recording that is too short is played again.

    >>> recorded(np.array([0.0, 1.0, 4.0]), 1.0, 6.0).tolist()
    [0.0, 0.5, 2.0, 3.0, 3.5, 5.0]
    """
    count = round(rate_per_s * seconds)
    gaps = np.diff(moments_s)
    # What lies between the last and the first is not in the recording: the mean of what is.
    gaps = np.append(gaps, gaps.mean()) if gaps.any() else np.ones(1)
    gaps = np.resize(gaps, count)
    at_s: Schedule = np.cumsum(gaps) - gaps
    return at_s * (seconds / gaps.sum()) if count else at_s
