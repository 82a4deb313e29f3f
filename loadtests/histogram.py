"""Latencies counted in buckets of one size relative to their value, so that counts of any stretches can be added.

The layout is HdrHistogram's for two significant digits: 128 buckets an octave above 256 µs and one a microsecond below
it, so no value is off by more than a 128th.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_OCTAVE = 128
_LINEAR = 2 * _OCTAVE
_MOST_US = 2**27 - 1
BUCKETS = _LINEAR + _OCTAVE * (27 - 8)
"""Up to 134 seconds; what is longer is counted in the last."""

Counts = NDArray[np.int64]


def buckets(latency_ms: NDArray[np.float64]) -> NDArray[np.int64]:
    """In which bucket each latency is counted.

    >>> buckets(np.array([0.0, 0.255, 0.256, 1.0, 1e9])).tolist() == [0, 255, 256, 506, BUCKETS - 1]
    True
    """
    us = np.clip(latency_ms * 1e3 + 1e-6, 0, _MOST_US).astype(np.int64)
    shift = np.maximum(np.log2(np.maximum(us, 1)).astype(np.int64) - 7, 0)
    found: NDArray[np.int64] = shift * _OCTAVE + (us >> shift)
    return found


def count(latency_ms: NDArray[np.float64]) -> Counts:
    """How many latencies lie in each bucket."""
    return np.bincount(buckets(latency_ms), minlength=BUCKETS).astype(np.int64)


def _middles_ms() -> NDArray[np.float64]:
    index = np.arange(BUCKETS)
    shift = np.maximum(index // _OCTAVE - 1, 0)
    middles: NDArray[np.float64] = ((index - shift * _OCTAVE) * 2.0**shift + 2.0**shift / 2) / 1e3
    return middles


MIDDLES_MS = _middles_ms()
"""What a latency in each bucket is taken for."""


def percentile_ms(counts: NDArray[np.float64] | Counts, at: float, forever: float = 0.0) -> float:
    """A percentile of the counted; `forever` more of them never came. Infinite where it falls among those, or of none.

    >>> percentile_ms(count(np.arange(1, 101) / 1.0), 50) == percentile_ms(count(np.array([50.0])), 50)
    True
    """
    cumulative = np.cumsum(counts)
    place = (float(cumulative[-1]) + forever) * at / 100
    if not cumulative[-1] or place > cumulative[-1]:
        return float("inf")
    return float(MIDDLES_MS[int(np.searchsorted(cumulative, max(place, 1e-9)))])
