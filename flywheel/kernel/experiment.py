"""An experiment between champion and challenger: who sees which, whether the split is sound, what the difference is.

A unit (a card) always meets the same arm, so its decisions are not independent: differences are judged with the unit
as the observation (delta method for the ratio of two sums over units). Intervals are for one look at the planned
size; looking often and stopping at the first significant one would find differences that are not there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import blake2b
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from flywheel.contracts.models import Role

_NAN = float("nan")
_FEW_UNITS = 30
_PLACES = 2**64


def assign(unit: str, salt: str, challenger_share: float, canary_share: float = 0.0) -> Role:
    """The arm of a unit: always the same for the same salt, independent between salts.

    The challenger takes the lowest hashes and the canary the highest, so raising a share only moves units from the
    champion to that arm, never back and never from one arm to the other. The shares must not exceed 1 together.

    >>> assign("c000001", "spring", 0.0), assign("c000001", "spring", 1.0), assign("c000001", "spring", 0.0, 1.0)
    (<Role.CHAMPION: 'champion'>, <Role.CHALLENGER: 'challenger'>, <Role.CANARY: 'canary'>)
    """
    place = int.from_bytes(blake2b(f"{salt}\0{unit}".encode(), digest_size=8).digest(), "big")
    if place < challenger_share * _PLACES:
        return Role.CHALLENGER
    return Role.CANARY if place >= _PLACES - canary_share * _PLACES else Role.CHAMPION


def sample_ratio_p(champion_units: int, challenger_units: int, challenger_share: float) -> float:
    """p-value of the chi-square check that units are split as declared; NaN without units or without a split.

    Below 0.001 the split is broken, and no comparison between the arms means anything.

    >>> round(sample_ratio_p(8000, 2000, 0.2), 3), sample_ratio_p(8000, 2300, 0.2) < 0.001
    (1.0, True)
    """
    units = champion_units + challenger_units
    if not units or not 0 < challenger_share < 1:
        return _NAN
    expected = units * challenger_share
    chi_square = (challenger_units - expected) ** 2 * (1 / expected + 1 / (units - expected))
    return math.erfc(math.sqrt(chi_square / 2))


@dataclass(frozen=True)
class Interval:
    """An estimate and the bounds of its confidence interval; all NaN where nothing can be said."""

    estimate: float
    low: float
    high: float


NOTHING = Interval(_NAN, _NAN, _NAN)


def wilson(successes: float, trials: float, confidence: float = 0.95) -> Interval:
    """Interval of a proportion that holds for few trials and near 0 and 1 too (Wilson's score interval).

    Trials must be independent of each other; a number of them that is only equivalent may be fractional.

    >>> wilson(8, 10)
    Interval(estimate=0.8, low=0.49016247153664183, high=0.9433178485456247)
    """
    if not trials:
        return NOTHING
    z = _quantile(confidence)
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return Interval(share, max(centre - half, 0.0), min(centre + half, 1.0))


@dataclass(frozen=True)
class Ratio:
    """A ratio of two sums over units, with the variance of its estimate."""

    value: float
    variance: float
    units: int

    def interval(self, confidence: float = 0.95) -> Interval:
        """The ratio with its confidence interval; NaN bounds below two units."""
        half = _quantile(confidence) * math.sqrt(self.variance)
        return Interval(self.value, self.value - half, self.value + half)


def ratio_of(units: ArrayLike, numerators: ArrayLike, denominators: ArrayLike) -> Ratio:
    """Sum of numerators over sum of denominators, its variance clustered by unit (delta method).

    All three have one entry per decision; units are whole numbers or strings.
    """
    _, place = np.unique(np.asarray(units), return_inverse=True)
    above = np.bincount(place, weights=np.asarray(numerators, dtype=np.float64))
    below = np.bincount(place, weights=np.asarray(denominators, dtype=np.float64))
    clusters, total = above.size, float(below.sum())
    if not total:
        return Ratio(_NAN, _NAN, clusters)
    value = float(above.sum()) / total
    if clusters < 2:
        return Ratio(value, _NAN, clusters)
    residual = above - value * below
    variance = float(residual @ residual) * clusters / (clusters - 1) / total**2
    return Ratio(value, variance, clusters)


def share_of(units: ArrayLike, successes: ArrayLike, confidence: float = 0.95) -> Interval:
    """The share of successes among decisions with its interval, clustered by unit and within 0 and 1.

    Both have one entry per decision. Below 30 units, and where every unit shows the same share, the spread between
    units tells too little: there each unit weighs as one trial of a Wilson interval.

    >>> share_of([1, 1, 1, 1], [True, True, True, True]) == wilson(1, 1)
    True
    """
    success = np.asarray(successes, dtype=np.float64)
    ratio = ratio_of(units, success, np.ones_like(success))
    if ratio.units < _FEW_UNITS or not ratio.variance > 0:
        return wilson(ratio.value * ratio.units, ratio.units, confidence) if ratio.units else NOTHING
    found = ratio.interval(confidence)
    return Interval(found.estimate, max(found.low, 0.0), min(found.high, 1.0))


@dataclass(frozen=True)
class Difference:
    """Challenger minus champion, its confidence interval and the two-sided p-value of there being none."""

    interval: Interval
    p_value: float


def compare(champion: Ratio, challenger: Ratio, confidence: float = 0.95) -> Difference:
    """The difference of two ratios measured on different units."""
    estimate = challenger.value - champion.value
    error = math.sqrt(champion.variance + challenger.variance)
    if not error > 0:
        return Difference(Interval(estimate, _NAN, _NAN), _NAN)
    half = _quantile(confidence) * error
    p_value = math.erfc(abs(estimate) / error / math.sqrt(2))
    return Difference(Interval(estimate, estimate - half, estimate + half), p_value)


def units_needed(champion: Ratio, smallest_difference: float, challenger_share: float, power: float = 0.8) -> float:
    """Units in both arms together that a difference of that size needs to be seen at 5 % with this power.

    Taken from the champion's own spread; infinite where that is unknown or the difference is nil.
    """
    if not smallest_difference or math.isnan(champion.variance) or not 0 < challenger_share < 1:
        return math.inf
    spread = champion.variance * champion.units
    reach = _quantile(0.95) + NormalDist().inv_cdf(power)
    return spread * (reach / smallest_difference) ** 2 * (1 / challenger_share + 1 / (1 - challenger_share))


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)
