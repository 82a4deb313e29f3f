"""How features as they were served compare with the same features computed afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-5
"""Relative; what is served and what is trained on are single-precision numbers."""


@dataclass(frozen=True)
class FeatureParity:
    """One feature over the rows that were compared.

    `equal_share` is NaN when there were none. `worst` is the largest difference, `worst_row` where it was.
    """

    feature: str
    rows: int
    equal_share: float
    worst: float
    worst_row: int

    def __str__(self) -> str:
        return f"{self.feature}: {self.equal_share:.2%} of {self.rows} equal, at most {self.worst:.6g} apart"


def compare(
    names: Sequence[str], served: NDArray[np.float32], recomputed: NDArray[np.float32]
) -> tuple[FeatureParity, ...]:
    """Every feature's parity, in the order of `names`; both shape (rows, features). Two NaN are equal.

    >>> one, two = np.array([[1.0, 5.0]], np.float32), np.array([[1.0, 4.0]], np.float32)
    >>> [str(each) for each in compare(["a", "b"], one, two)]
    ['a: 100.00% of 1 equal, at most 0 apart', 'b: 0.00% of 1 equal, at most 1 apart']
    """
    mine, theirs = served.astype(np.float64), recomputed.astype(np.float64)
    equal = np.isclose(mine, theirs, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    # Where one alone is NaN, or infinite, nothing is further apart.
    apart = np.where(equal, 0.0, np.nan_to_num(np.abs(mine - theirs), nan=np.inf, posinf=np.inf))
    return tuple(_of(name, equal[:, place], apart[:, place]) for place, name in enumerate(names))


def is_same(served: float, recomputed: float) -> bool:
    """Whether two values are equal as single-precision numbers, within the tolerance. Two NaN are equal.

    >>> is_same(16_777_216.0, 16_777_217.0), is_same(1.0, 1.001)
    (True, False)
    """
    single = np.array([served, recomputed]).astype(np.float32).astype(np.float64)
    return bool(np.isclose(single[0], single[1], rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))


def least_equal(parities: Sequence[FeatureParity]) -> FeatureParity | None:
    """The feature with the smallest share of equal values, the furthest apart among equals; None when there is none."""
    compared = [parity for parity in parities if parity.rows]
    return min(compared, key=lambda parity: (parity.equal_share, -parity.worst), default=None)


def _of(name: str, equal: NDArray[np.bool_], apart: NDArray[np.float64]) -> FeatureParity:
    if not len(equal):
        return FeatureParity(name, 0, float("nan"), 0.0, -1)
    row = int(np.argmax(apart))
    return FeatureParity(name, len(equal), float(equal.mean()), float(apart[row]), row)
