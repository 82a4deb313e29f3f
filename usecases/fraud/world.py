"""The world of card payments as the driver sees it: transactions, the chargebacks that follow, the truth aside.

Re-implemented from the description in the book "Reproducible machine learning for credit card fraud detection".
With 5000 customers, 10000 terminals and chargebacks after exactly 7 days it is the handbook's; with other sizes the
scenarios' rates scale with the population and the reach of a customer with the density of terminals.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from flywheel.contracts.events import to_us
from flywheel.kernel.durations import DAY_US, SECOND_US
from flywheel.kernel.world import Day, Drift, Occurrence, Truth, WorldKnobs
from usecases.fraud.simulation.payments import Payments, draw_payments, expected_payments
from usecases.fraud.simulation.population import settle
from usecases.fraud.simulation.scenarios import CARD_DAYS, Scenario, Scenarios
from usecases.fraud.simulation.start import START
from usecases.fraud.simulation.streams import Stream, stream


class Knobs(WorldKnobs):
    """The knobs of the card-payment world."""

    customers: int = Field(default=1_000, ge=1, le=1_000_000)
    """How many cards there are."""
    terminals: int | None = Field(default=None, ge=1, le=1_000_000)
    """Twice the customers unless given."""

    @property
    def terminal_count(self) -> int:
        return self.terminals or 2 * self.customers


@dataclass(frozen=True)
class DayOfPayments:
    """A day's payments with fraud in them, ordered by time; arrays of equal length."""

    time_us: NDArray[np.int64]
    customer: NDArray[np.int64]
    terminal: NDArray[np.int32]
    amount_cents: NDArray[np.int64]
    scenario: NDArray[np.int8]


class FraudWorld:
    """Days of card payments; see `flywheel.kernel.world.World`."""

    def __init__(self, knobs: Knobs) -> None:
        self._knobs = knobs
        self._population = settle(knobs.seed, knobs.customers, knobs.terminal_count)
        self._honest = lru_cache(maxsize=4 * CARD_DAYS)(self._draw_honest)
        reach_back = ceil(knobs.label_delay_max_days) + 1
        self._chargebacks = lru_cache(maxsize=reach_back + 1)(self._draw_chargebacks)
        self._scenarios = Scenarios(
            seed=knobs.seed,
            customers=knobs.customers,
            terminals=knobs.terminal_count,
            prevalence=knobs.prevalence,
            payments_of=self._honest,
        )

    @property
    def start_us(self) -> int:
        return to_us(START)

    @property
    def daily_requests(self) -> float:
        return expected_payments(self._population)

    def payments(self, number: int) -> DayOfPayments:
        """The payments of a day as arrays, without making events of them."""
        honest = self._honest(number)
        scenario, amount_cents = self._scenarios.of_day(number)
        # Prices rise for everybody alike: what counts as a large amount is judged before they do.
        factor = self._knobs.drift_of(Drift.AMOUNTS, number)
        if factor != 1.0:
            amount_cents = np.maximum(1, np.rint(amount_cents * factor)).astype(np.int64)
        time_us = self.start_us + number * DAY_US + honest.second * SECOND_US
        return DayOfPayments(time_us, honest.customer, honest.terminal, amount_cents, scenario)

    def day(self, number: int) -> Day:
        payments = self.payments(number)
        events = _transactions(number, payments)
        first_us = self.start_us + number * DAY_US
        for earlier in range(max(0, number - ceil(self._knobs.label_delay_max_days) - 1), number + 1):
            events += [
                event for event in self._chargebacks(earlier) if first_us <= event.event_time_us < first_us + DAY_US
            ]
        events.sort(key=lambda event: event.event_time_us)
        truth = [
            Truth(f"tx-{number}-{row}", Scenario(payments.scenario[row]).name.lower())
            for row in np.flatnonzero(payments.scenario)
        ]
        return Day(number, events, truth)

    def _draw_honest(self, number: int) -> Payments:
        volume = self._knobs.drift_of(Drift.VOLUME, number)
        return draw_payments(self._population, stream(self._knobs.seed, Stream.PAYMENTS, number), volume)

    def _draw_chargebacks(self, number: int) -> list[Occurrence]:
        """Chargebacks of the frauds of a day, whenever they come."""
        payments = self.payments(number)
        frauds = np.flatnonzero(payments.scenario)
        knobs = self._knobs
        rng = stream(knobs.seed, Stream.CHARGEBACKS, number)
        delay_s = rng.uniform(knobs.label_delay_min_days, knobs.label_delay_max_days, len(frauds)) * 86_400
        time_us = payments.time_us[frauds] + delay_s.astype(np.int64) * SECOND_US
        return [
            Occurrence(
                "chargeback",
                int(at_us),
                {
                    "event_id": f"cb-{number}-{row}",
                    "event_time": text,
                    "transaction_id": f"tx-{number}-{row}",
                    "card_id": card_id(payments.customer[row]),
                    "terminal_id": terminal_id(payments.terminal[row]),
                    "amount_cents": int(payments.amount_cents[row]),
                },
            )
            for row, at_us, text in zip(frauds.tolist(), time_us.tolist(), _iso(time_us), strict=True)
        ]


def build(knobs: Knobs) -> FraudWorld:
    """The world these knobs describe."""
    return FraudWorld(knobs)


def card_id(customer: int) -> str:
    """
    >>> card_id(123)
    'c000123'
    """
    return f"c{customer:06d}"


def terminal_id(terminal: int) -> str:
    """
    >>> terminal_id(456)
    't000456'
    """
    return f"t{terminal:06d}"


def _transactions(number: int, payments: DayOfPayments) -> list[Occurrence]:
    rows = zip(
        payments.time_us.tolist(),
        _iso(payments.time_us),
        payments.customer.tolist(),
        payments.terminal.tolist(),
        payments.amount_cents.tolist(),
        strict=True,
    )
    return [
        Occurrence(
            "transaction",
            at_us,
            {
                "event_id": f"tx-{number}-{row}",
                "event_time": text,
                "card_id": card_id(customer),
                "terminal_id": terminal_id(terminal),
                "amount_cents": amount_cents,
            },
        )
        for row, (at_us, text, customer, terminal, amount_cents) in enumerate(rows)
    ]


def _iso(time_us: NDArray[np.int64]) -> list[str]:
    return [f"{text}Z" for text in np.datetime_as_string(time_us.astype("datetime64[us]"), unit="s")]
