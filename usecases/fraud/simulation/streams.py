"""Independent random streams: each (purpose, day) has its own, so that no draw depends on how many came before."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream is drawn for."""

    POPULATION = 1
    PAYMENTS = 2
    TERMINALS = 3
    CARDS = 4
    THEFTS = 5
    CHARGEBACKS = 6


def stream(seed: int, purpose: Stream, day: int = 0) -> np.random.Generator:
    """The generator of that purpose on that day; the same for the same arguments, whatever was drawn elsewhere.

    >>> stream(7, Stream.CARDS, 3).random() == stream(7, Stream.CARDS, 3).random()
    True
    """
    return np.random.default_rng([seed, purpose, day])
