"""Drift by the population stability index, with one definition of its bins and of what counts as an alarm.

Bins are the deciles of the training reference, frozen there. A value so frequent that it fills a decile alone has a
bin of its own; the outer bins are open, NaN has its own bin. PSI = sum over bins of (p - q) ln(p / q), both shares
smoothed by half a record a bin. Sampling alone makes PSI about (1/n + 1/m) chi2(B - 1), so an alarm needs PSI above a
fixed threshold *and* above the 99.9 % quantile of that noise, in several windows one after the other.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtri

from flywheel.contracts.models import Histogram

THRESHOLD = 0.2
"""PSI from which a shift is usually called major."""
_NOISE_TAIL = 0.001
_SMOOTHING = 0.5


def histogram(values: ArrayLike, bins: int = 10) -> Histogram:
    """The frozen reference of one variable: at most `bins` equally filled bins, fewer where values repeat.

    Cut points lie halfway between neighbouring observed values, so rounding to single precision moves nothing
    across them. Raises ValueError below two bins.

    >>> histogram([0, 0, 0, 0, 0, 0, 1, 2, 3, float("nan")], bins=3)
    Histogram(edges=(-1.0, 0.5), counts=(0, 6, 3), missing=1)
    """
    if bins < 2:
        raise ValueError(f"a histogram needs at least 2 bins, not {bins}")
    column = np.asarray(values, dtype=np.float64).ravel()
    present = column[~np.isnan(column)]
    edges = _edges(present, bins)
    return Histogram(edges=edges, counts=_binned(present, edges), missing=int(column.size - present.size))


def count(values: ArrayLike, reference: Histogram) -> NDArray[np.int64]:
    """How many values fall into each bin of the reference; the last entry counts NaN. Shape (bins + 1,)."""
    column = np.asarray(values, dtype=np.float64).ravel()
    present = column[~np.isnan(column)]
    return np.array([*_binned(present, reference.edges), column.size - present.size], dtype=np.int64)


def psi(reference: Histogram, counts: ArrayLike) -> float:
    """Population stability index of counts (as `count` gives them) against the reference; NaN while either is empty.

    >>> reference = histogram(range(100), bins=4)
    >>> psi(reference, count(range(100), reference))
    0.0
    """
    expected, actual = _occupied(reference, counts)
    if not expected.sum() or not actual.sum():
        return float("nan")
    p, q = _shares(expected), _shares(actual)
    return float(np.sum((q - p) * np.log(q / p)))


def noise(reference: Histogram, counts: ArrayLike) -> float:
    """The PSI that sampling alone exceeds once in a thousand windows of this size; NaN while either side is empty.

    (1/n + 1/m) times the 99.9 % quantile of chi-square with B - 1 degrees of freedom, B the bins in use.
    """
    expected, actual = _occupied(reference, counts)
    n, m = expected.sum(), actual.sum()
    if not n or not m:
        return float("nan")
    freedom = max(expected.size - 1, 1)
    return float((1 / n + 1 / m) * chdtri(freedom, _NOISE_TAIL))


@dataclass(frozen=True)
class Shift:
    """How far one variable's window is from its reference. `exceeds`: beyond threshold and beyond noise."""

    psi: float
    noise: float
    exceeds: bool


def shift(reference: Histogram, counts: ArrayLike, *, threshold: float = THRESHOLD) -> Shift:
    """PSI, its noise bound, and whether it exceeds both."""
    index, bound = psi(reference, counts), noise(reference, counts)
    return Shift(index, bound, bool(index > threshold and index > bound))


class Alarm:
    """Rings once a variable has exceeded in `windows` consecutive windows, and stops with the first calm one."""

    def __init__(self, windows: int) -> None:
        if windows < 1:
            raise ValueError(f"an alarm needs at least 1 window, not {windows}")
        self._recent: deque[bool] = deque(maxlen=windows)

    def observe(self, exceeds: bool) -> bool:
        """Adds one window; True while ringing."""
        self._recent.append(exceeds)
        return self.ringing

    @property
    def ringing(self) -> bool:
        return len(self._recent) == self._recent.maxlen and all(self._recent)


def _edges(present: NDArray[np.float64], bins: int) -> tuple[float, ...]:
    if not present.size:
        return ()
    distinct, repeats = np.unique(present, return_counts=True)
    upper_ranks = np.cumsum(repeats)
    quantile_ranks = np.arange(1, bins) * present.size / bins
    at = np.searchsorted(upper_ranks, quantile_ranks, side="left")
    heavy = np.flatnonzero(repeats * bins >= present.size) if distinct.size > 1 else np.array([0])
    cuts = {_above(distinct, int(index)) for index in (*at, *heavy)}
    cuts |= {_below(distinct, int(index)) for index in heavy}
    return tuple(sorted(cuts))


def _above(distinct: NDArray[np.float64], index: int) -> float:
    if index + 1 < distinct.size:
        return float(distinct[index] / 2 + distinct[index + 1] / 2)
    return float(distinct[index] + _margin(distinct, index))


def _below(distinct: NDArray[np.float64], index: int) -> float:
    if index > 0:
        return _above(distinct, index - 1)
    return float(distinct[index] - _margin(distinct, index))


def _margin(distinct: NDArray[np.float64], index: int) -> float:
    """How far beyond the outermost value its bin reaches: as far as its neighbour is, or a millionth of itself."""
    if distinct.size > 1:
        neighbour = distinct[1] if index == 0 else distinct[index - 1]
        return float(abs(distinct[index] - neighbour))
    return float(max(abs(distinct[index]), 1.0) * 1e-6)


def _binned(present: NDArray[np.float64], edges: tuple[float, ...]) -> tuple[int, ...]:
    places = np.searchsorted(np.asarray(edges, dtype=np.float64), present, side="left")
    return tuple(int(number) for number in np.bincount(places, minlength=len(edges) + 1))


def _occupied(reference: Histogram, counts: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    expected = np.array([*reference.counts, reference.missing], dtype=np.float64)
    actual = np.asarray(counts, dtype=np.float64)
    if actual.shape != expected.shape:
        raise ValueError(f"counts have {actual.size} bins, their reference has {expected.size}")
    used = (expected > 0) | (actual > 0)
    return expected[used], actual[used]


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    smoothed = counts + _SMOOTHING
    return np.asarray(smoothed / smoothed.sum(), dtype=np.float64)
