"""The three ways in which fraud comes about, and on which terminals and cards it strikes."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from math import floor

import numpy as np
from numpy.typing import NDArray

from usecases.fraud.simulation.payments import Payments
from usecases.fraud.simulation.population import HANDBOOK_CUSTOMERS, HANDBOOK_TERMINALS
from usecases.fraud.simulation.streams import Stream, stream

LARGE_AMOUNT_CENTS = 22_000
TERMINAL_DAYS = 28
CARD_DAYS = 14
STOLEN_FACTOR = 5
_TERMINALS_A_DAY = 2
_CARDS_A_DAY = 3


class Scenario(IntEnum):
    """Why a payment is fraud; a later one takes precedence."""

    NONE = 0
    LARGE_AMOUNT = 1
    COMPROMISED_TERMINAL = 2
    COMPROMISED_CARD = 3


def struck_on(day: int, per_day: float) -> int:
    """How many are struck on a day if `per_day` are on the average: fractions add up from day to day.

    >>> [struck_on(day, 0.4) for day in range(5)]
    [0, 0, 1, 0, 1]
    """
    return floor((day + 1) * per_day) - floor(day * per_day)


class Scenarios:
    """Fraud in one world. Days before day 0 do not exist.

    `payments_of(day)` must return the honest payments of a day, the same at every call.
    """

    def __init__(
        self,
        *,
        seed: int,
        customers: int,
        terminals: int,
        prevalence: float,
        payments_of: Callable[[int], Payments],
    ) -> None:
        self._seed = seed
        self._customers = customers
        self._terminals = terminals
        self._terminals_a_day = prevalence * _TERMINALS_A_DAY * terminals / HANDBOOK_TERMINALS
        self._cards_a_day = prevalence * _CARDS_A_DAY * customers / HANDBOOK_CUSTOMERS
        self._payments_of = payments_of
        self._stolen_since = lru_cache(maxsize=2 * CARD_DAYS)(self._draw_stolen)

    def of_day(self, day: int) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        """Scenario and amount in cents of each of the day's payments, in their order."""
        payments = self._payments_of(day)
        scenario = np.zeros(len(payments), dtype=np.int8)
        scenario[payments.amount_cents > LARGE_AMOUNT_CENTS] = Scenario.LARGE_AMOUNT
        scenario[np.isin(payments.terminal, self.compromised_terminals(day))] = Scenario.COMPROMISED_TERMINAL
        stolen = self._stolen_on(day)
        scenario[stolen] = Scenario.COMPROMISED_CARD
        amount_cents = payments.amount_cents.copy()
        amount_cents[stolen] *= STOLEN_FACTOR
        return scenario, amount_cents

    def compromised_terminals(self, day: int) -> NDArray[np.int64]:
        """Terminals all of whose payments are fraud on that day."""
        drawn = [self._draw_terminals(start) for start in range(max(0, day - TERMINAL_DAYS + 1), day + 1)]
        return np.unique(np.concatenate(drawn))

    def cards_compromised_on(self, day: int) -> NDArray[np.int64]:
        """Customers whose card falls into wrong hands on that day, for `CARD_DAYS`."""
        count = min(struck_on(day, self._cards_a_day), self._customers)
        return np.sort(stream(self._seed, Stream.CARDS, day).choice(self._customers, count, replace=False))

    def _draw_terminals(self, day: int) -> NDArray[np.int64]:
        count = min(struck_on(day, self._terminals_a_day), self._terminals)
        return stream(self._seed, Stream.TERMINALS, day).choice(self._terminals, count, replace=False)

    def _stolen_on(self, day: int) -> NDArray[np.int64]:
        rows = [self._stolen_since(start)[day - start] for start in range(max(0, day - CARD_DAYS + 1), day + 1)]
        return np.unique(np.concatenate(rows))

    def _draw_stolen(self, start: int) -> list[NDArray[np.int64]]:
        """Rows that are fraud because of the cards compromised on day `start`, one array for each following day.

        A third (rounded down) of a card's payments in the whole window is drawn, so the window is looked at as one.
        """
        cards = self.cards_compromised_on(start)
        empty = np.empty(0, dtype=np.int64)
        if not len(cards):
            return [empty] * CARD_DAYS
        window = [self._payments_of(start + offset).customer for offset in range(CARD_DAYS)]
        rng = stream(self._seed, Stream.THEFTS, start)
        chosen: list[list[int]] = [[] for _ in range(CARD_DAYS)]
        for card in cards:
            paid = [(offset, int(row)) for offset, who in enumerate(window) for row in np.flatnonzero(who == card)]
            for nth in rng.choice(len(paid), len(paid) // 3, replace=False) if paid else ():
                offset, row = paid[nth]
                chosen[offset].append(row)
        return [np.array(rows, dtype=np.int64) if rows else empty for rows in chosen]
