"""Splits a training set by time, so that a model is judged on what came after everything it learnt from.

    | warm-up | train | calibrate |  gap  | validate |

The warm-up is left out: long windows are not filled yet there. The gap is as long as a label takes to mature: at the
start of `validate` every label of `train` and `calibrate` was known, as it would be for a model in production.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.bool_]


class TooLittleHistory(ValueError):
    """There are too few matured events to train and to judge; the message says what is missing."""


@dataclass(frozen=True)
class Shares:
    """Lengths of the parts as shares of the time from the first to the last row; the gap is a fixed time."""

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


def split_by_time(times_us: NDArray[np.int64], maturity_us: int, shares: Shares | None = None) -> Split:
    """The split of rows with these event times (microseconds). Raises TooLittleHistory when a part is empty.

    >>> split = split_by_time(np.arange(100), maturity_us=10)
    >>> [int(part.sum()) for part in (split.train, split.calibrate, split.validate)]
    [42, 14, 20]
    """
    shares = shares or Shares()
    if not times_us.size:
        raise TooLittleHistory("no event has a matured label yet")
    first, last = int(times_us.min()), int(times_us.max())
    span_us = last - first
    validate_from = last - int(span_us * shares.validate)
    learn_until = validate_from - maturity_us
    calibrate_from = learn_until - int(span_us * shares.calibrate)
    train_from = first + int(span_us * shares.warm_up)
    parts = {
        "train": (times_us >= train_from) & (times_us < calibrate_from),
        "calibrate": (times_us >= calibrate_from) & (times_us < learn_until) & (times_us >= train_from),
        "validate": times_us >= validate_from,
    }
    for name, rows in parts.items():
        if not rows.any():
            raise TooLittleHistory(
                f"nothing is left to {name}: matured events span {span_us / 86_400e6:.1f} days, "
                f"of which {maturity_us / 86_400e6:.1f} are the gap in which labels mature"
            )
    return Split(**parts, trained_until_us=learn_until)
