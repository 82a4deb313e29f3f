"""Sums and spreads of many stretches of one series, each put together from few stretches that are known.

Running totals would be simpler, but their differences lose small numbers beside large ones that are outside the
stretch. Here only what is inside is ever added: pairs, pairs of pairs and so on, merged as Chan, Golub and LeVeque
(1979) merge squares about means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class PowerSums:
    """Number of values, their sum, and the sum of squares about their mean; arrays of one shape."""

    n: Values
    total: Values
    m2: Values

    def at(self, places: Places) -> PowerSums:
        return PowerSums(self.n[places], self.total[places], self.m2[places])

    def merged(self, other: PowerSums) -> PowerSums:
        """Of both together."""
        n = self.n + other.n
        both = (self.n > 0) & (other.n > 0)
        apart = np.zeros(len(n))
        np.subtract(
            np.divide(self.total, self.n, where=both, out=np.zeros(len(n))),
            np.divide(other.total, other.n, where=both, out=np.zeros(len(n))),
            out=apart,
            where=both,
        )
        weight = np.divide(self.n * other.n, n, where=both, out=np.zeros(len(n)))
        return PowerSums(n, self.total + other.total, self.m2 + other.m2 + weight * apart**2)


class MomentTree:
    """Answers for any stretches of the series at once, each in a logarithmic number of merges."""

    def __init__(self, values: Values) -> None:
        level = PowerSums(np.ones(len(values)), values, np.zeros(len(values)))
        self._levels = [level]
        while len(level.n) > 1:
            pairs = np.arange(0, len(level.n) - 1, 2)
            level = level.at(pairs).merged(level.at(pairs + 1))
            self._levels.append(level)

    def over(self, first: Places, last: Places) -> PowerSums:
        """Of each `values[first:last]`; an empty stretch has zeros."""
        low, high = first.copy(), np.maximum(last, first)
        found = PowerSums(*(np.zeros(len(low)) for _ in range(3)))
        for level in self._levels:
            odd = (low < high) & (low % 2 == 1)
            found = _with(found, level, odd, low)
            low = low + odd
            odd = (low < high) & (high % 2 == 1)
            high = high - odd
            found = _with(found, level, odd, high)
            low, high = low // 2, high // 2
        return found


def _with(found: PowerSums, level: PowerSums, chosen: NDArray[np.bool_], places: Places) -> PowerSums:
    """`found` and, where chosen, the stretches at these places too."""
    if not chosen.any():
        return found
    where = np.flatnonzero(chosen)
    merged = found.at(where).merged(level.at(places[where]))
    for mine, new in ((found.n, merged.n), (found.total, merged.total), (found.m2, merged.m2)):
        mine[where] = new
    return found
