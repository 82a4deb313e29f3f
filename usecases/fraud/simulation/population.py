"""Customers and terminals on a map, and which customer can reach which terminal."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from usecases.fraud.simulation.streams import Stream, stream

MAP_SIDE = 100.0
HANDBOOK_CUSTOMERS = 5_000
HANDBOOK_TERMINALS = 10_000
HANDBOOK_RADIUS = 5.0
_CUSTOMERS_AT_ONCE = 500


@dataclass(frozen=True)
class Population:
    """Customers with their habits. The terminals customer `i` uses are
    `reachable[first_reachable[i] : first_reachable[i] + reachable_count[i]]`."""

    mean_amount: NDArray[np.float64]
    """Currency units, by customer."""
    daily_payments: NDArray[np.float64]
    """Expected payments a day, by customer."""
    reachable: NDArray[np.int32]
    first_reachable: NDArray[np.int64]
    reachable_count: NDArray[np.int64]
    terminals: int

    @property
    def customers(self) -> int:
        return len(self.mean_amount)


def radius_for(terminals: int) -> float:
    """How far customers go, so that they find as many terminals as in the handbook however many there are.

    The map stays, the terminals on it get rarer; the area within reach grows as they do.

    >>> radius_for(10_000), radius_for(2_500)
    (5.0, 10.0)
    """
    return HANDBOOK_RADIUS * sqrt(HANDBOOK_TERMINALS / terminals)


def settle(seed: int, customers: int, terminals: int) -> Population:
    """The population of that seed and size."""
    rng = stream(seed, Stream.POPULATION)
    homes = rng.uniform(0, MAP_SIDE, (customers, 2))
    mean_amount = rng.uniform(5, 100, customers)
    daily_payments = rng.uniform(0, 4, customers)
    places = rng.uniform(0, MAP_SIDE, (terminals, 2))
    who, reachable = _within(homes, places, radius_for(terminals))
    counts = np.bincount(who, minlength=customers).astype(np.int64)
    return Population(mean_amount, daily_payments, reachable, np.cumsum(counts) - counts, counts, terminals)


def _within(
    homes: NDArray[np.float64], places: NDArray[np.float64], radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Pairs (home, place) closer than `radius`, ordered by home."""
    who, where = [], []
    for first in range(0, len(homes), _CUSTOMERS_AT_ONCE):
        block = homes[first : first + _CUSTOMERS_AT_ONCE]
        squared = (block[:, None, 0] - places[None, :, 0]) ** 2 + (block[:, None, 1] - places[None, :, 1]) ** 2
        home, place = np.nonzero(squared < radius**2)
        who.append(home.astype(np.int64) + first)
        where.append(place.astype(np.int32))
    return np.concatenate(who), np.concatenate(where)
