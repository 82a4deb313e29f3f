"""Splits a training set by time, so that a model is judged on what came after everything it learnt from.

    | warm-up | train | calibrate |  gap  | validate |

The warm-up is left out: long windows are not filled yet there. The gap is as long as a label takes to mature: at the
start of `validate` every label of `train` and `calibrate` was known, as it would be for a model in production.

A few stray events may be far older than all others: a late event is accepted however late it is. The history begins
after them, and the rows before its beginning are in no part; else they would stretch the warm-up over everything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.durations import DAY_US

Rows = NDArray[np.bool_]

_FEW = 0.01
"""No more than this share of the rows (rounded up to whole rows) is ever taken for stray."""

_APART = 0.25
"""Rows are stray when the other rows begin later by more than this share of the time that those span."""


class TooLittleHistory(ValueError):
    """There are too few matured events to train and to judge; the message says what is missing."""


@dataclass(frozen=True)
class Shares:
    """Lengths of the parts as shares of the time from the beginning of the history to its end; the gap is a time."""

    warm_up: float = 0.15
    calibrate: float = 0.15
    validate: float = 0.2


@dataclass(frozen=True)
class Split:
    """Masks over the rows, each of shape (n,); a row is in at most one of them."""

    train: Rows
    calibrate: Rows
    validate: Rows
    trained_until_us: int
    """No row of `train` or `calibrate` is later."""
    begins_us: int
    """The beginning of the history. Rows before it are stray: they are in no part."""


def split_by_time(times_us: NDArray[np.int64], maturity_us: int, shares: Shares | None = None) -> Split:
    """The split of rows with these event times (microseconds). Raises TooLittleHistory when a part is empty.

    >>> split = split_by_time(np.arange(100), maturity_us=10)
    >>> [int(part.sum()) for part in (split.train, split.calibrate, split.validate)]
    [42, 14, 20]
    """
    shares = shares or Shares()
    if not times_us.size:
        raise TooLittleHistory("no event has a matured label yet")
    first, last = beginning(times_us), int(times_us.max())
    span_us = last - first
    validate_from = last - int(span_us * shares.validate)
    learn_until = validate_from - maturity_us
    calibrate_from = learn_until - int(span_us * shares.calibrate)
    train_from = first + int(span_us * shares.warm_up)
    if train_from >= calibrate_from:
        raise TooLittleHistory(_too_short(times_us, first, maturity_us, shares))
    bounds = {
        "train": (train_from, calibrate_from),
        "calibrate": (calibrate_from, learn_until),
        "validate": (validate_from, last + 1),
    }
    parts = {name: (times_us >= start) & (times_us < end) for name, (start, end) in bounds.items()}
    for name, rows in parts.items():
        if not rows.any():
            start, end = ((bound - first) / DAY_US for bound in bounds[name])
            raise TooLittleHistory(
                f"nothing is left to {name} on: no matured event lies between day {start:.1f} and day {end:.1f} "
                f"of the history of {span_us / DAY_US:.1f} days"
            )
    return Split(**parts, trained_until_us=learn_until, begins_us=first)


def beginning(times_us: NDArray[np.int64]) -> int:
    """The earliest of the times (at least one, in any order) that is not stray.

    >>> beginning(np.array([-9_000, *range(100)]))
    0
    """
    few = min(math.ceil(times_us.size * _FEW), times_us.size - 1)
    early = int(np.partition(times_us, few)[few])
    fence = early - int((int(times_us.max()) - early) * _APART)
    return int(times_us[times_us >= fence].min())


def _too_short(times_us: NDArray[np.int64], first: int, maturity_us: int, shares: Shares) -> str:
    stray = int((times_us < first).sum())
    needed_us = maturity_us / (1 - shares.warm_up - shares.calibrate - shares.validate)
    return (
        f"the history is too short: matured events span {(int(times_us.max()) - first) / DAY_US:.1f} days, "
        f"more than {needed_us / DAY_US:.1f} are needed where labels take {maturity_us / DAY_US:.1f} days to mature"
        + (f" (stray events long before, left out: {stray})" if stray else "")
    )
