"""What a formula does, told by the values it gives: an edited formula is another, a renamed or moved one is not."""

from __future__ import annotations

import hashlib

import numpy as np

from flywheel.kernel.durations import DAY_US, HOUR_US, MINUTE_US
from flywheel.kernel.features import Column, RequestFeature
from flywheel.kernel.fields import REQUEST_TIME

_PROBES = 257
"""Prime, so that stepping through the values in any stride meets each of them once."""
_FIRST_TIME_US = 1_522_540_800_000_000
_DIGITS = 9
"""Fewer than a double has: the last ones differ between mathematical libraries."""


def behaviour_of(feature: RequestFeature) -> str:
    """A digest of what the feature computes from some hundred fixed inputs, among them zeros, negatives and NaN.

    An edit that changes none of these values goes unnoticed.
    """
    columns = {name: _probes(name, place) for place, name in enumerate(feature.inputs)}
    return hashlib.sha256(" ".join(_values(feature, columns)).encode()).hexdigest()[:16]


def _probes(name: str, place: int) -> Column:
    """Values for one input: no two inputs have theirs in the same order."""
    steps = np.arange(_PROBES)
    if name == REQUEST_TIME:
        # All hours of all weekdays, over more than a year.
        return _FIRST_TIME_US + steps.astype(np.float64) * (DAY_US + 5 * HOUR_US + 7 * MINUTE_US)
    special = np.array([np.nan, 0.0, 1.0, -1.0, 2.0, 3.0, 4.0, 5.0, -250.0])
    values = np.concatenate([special, np.geomspace(1e-3, 1e7, _PROBES - special.size)])
    return values[(steps * (place + 1) + 3 * place) % _PROBES]


def _values(feature: RequestFeature, columns: dict[str, Column]) -> list[str]:
    with np.errstate(all="ignore"):
        try:
            return _written(feature.compute(columns))
        except Exception:
            return [
                _value(feature, {name: column[[row]] for name, column in columns.items()}) for row in range(_PROBES)
            ]


def _value(feature: RequestFeature, columns: dict[str, Column]) -> str:
    try:
        return " ".join(_written(feature.compute(columns)))
    except Exception as refusal:
        # To refuse an input is something that a formula does, too.
        return type(refusal).__name__


def _written(values: Column) -> list[str]:
    # Zero is added so that -0 and 0 are one.
    return [f"{value:.{_DIGITS}g}" for value in np.atleast_1d(np.asarray(values, np.float64)) + 0.0]
