"""One day of honest payments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from usecases.fraud.simulation.population import Population

_DAY_SECONDS = 86_400
_NOON_SECONDS = 43_200
_SPREAD_SECONDS = 20_000


@dataclass(frozen=True)
class Payments:
    """The payments of one day ordered by time; arrays of equal length."""

    second: NDArray[np.int64]
    """Of the day, 1 to 86399."""
    customer: NDArray[np.int64]
    terminal: NDArray[np.int32]
    amount_cents: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.second)


def draw_payments(population: Population, rng: np.random.Generator, volume: float = 1.0) -> Payments:
    """A day's payments; `volume` multiplies how often everybody pays."""
    customer = np.repeat(np.arange(population.customers), rng.poisson(population.daily_payments * volume))
    second = rng.normal(_NOON_SECONDS, _SPREAD_SECONDS, len(customer)).astype(np.int64)
    amount_cents = _amounts(population.mean_amount[customer], rng)
    pick = rng.random(len(customer))
    kept = (second > 0) & (second < _DAY_SECONDS) & (population.reachable_count[customer] > 0)
    kept_rows = np.flatnonzero(kept)
    order = kept_rows[np.argsort(second[kept_rows], kind="stable")]
    customer = customer[order]
    nth = (pick[order] * population.reachable_count[customer]).astype(np.int64)
    terminal = population.reachable[population.first_reachable[customer] + nth]
    return Payments(second[order], customer, terminal, amount_cents[order])


def expected_payments(population: Population) -> float:
    """Payments to be expected a day; those that fall outside the day do not happen."""
    # P(|normal(noon, spread)| stays inside the day) = P(|z| < 2.16).
    inside_the_day = 0.969227
    return float(population.daily_payments[population.reachable_count > 0].sum()) * inside_the_day


def _amounts(mean: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Cents: normal with half the mean as deviation, what falls below zero drawn anew between 0 and twice the mean."""
    amount = rng.normal(mean, mean / 2)
    amount = np.where(amount < 0, rng.uniform(0, 2 * mean), amount)
    return np.maximum(1, np.rint(amount * 100)).astype(np.int64)
