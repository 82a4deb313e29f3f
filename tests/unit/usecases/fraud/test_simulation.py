"""Population, payments and the three fraud scenarios against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from usecases.fraud.simulation.payments import Payments, draw_payments
from usecases.fraud.simulation.population import Population, radius_for, settle
from usecases.fraud.simulation.scenarios import (
    CARD_DAYS,
    TERMINAL_DAYS,
    Scenario,
    Scenarios,
    struck_on,
)
from usecases.fraud.simulation.streams import Stream, stream

CUSTOMERS, TERMINALS = 400, 800


@pytest.fixture(scope="module")
def population() -> Population:
    return settle(1, CUSTOMERS, TERMINALS)


@pytest.fixture(scope="module")
def days(population: Population) -> list[Payments]:
    return [draw_payments(population, stream(1, Stream.PAYMENTS, day)) for day in range(90)]


@pytest.fixture(scope="module")
def scenarios(days: list[Payments]) -> Scenarios:
    return Scenarios(seed=1, customers=CUSTOMERS, terminals=TERMINALS, prevalence=20, payments_of=lambda day: days[day])


def test_customers_find_as_many_terminals_whatever_the_size() -> None:
    handbook, small = settle(0, 5_000, 10_000), settle(0, 500, 1_000)
    assert radius_for(10_000) == 5.0
    # The smaller world's wider circles reach over the map's edge more often, so it finds somewhat fewer.
    assert small.reachable_count.mean() == pytest.approx(handbook.reachable_count.mean(), rel=0.15)


def test_everybody_pays_at_terminals_within_reach(population: Population, days: list[Payments]) -> None:
    day = days[0]
    for customer, terminal in zip(day.customer, day.terminal, strict=True):
        first = population.first_reachable[customer]
        assert terminal in population.reachable[first : first + population.reachable_count[customer]]


def test_who_reaches_no_terminal_does_not_pay() -> None:
    # Three customers with three, no and one terminal.
    population = Population(
        mean_amount=np.array([50.0, 50.0, 50.0]),
        daily_payments=np.array([20.0, 20.0, 20.0]),
        reachable=np.array([0, 1, 2, 2], dtype=np.int32),
        first_reachable=np.array([0, 3, 3]),
        reachable_count=np.array([3, 0, 1]),
        terminals=3,
    )
    day = draw_payments(population, stream(5, Stream.PAYMENTS, 0))
    assert set(day.customer) == {0, 2}
    assert set(day.terminal[day.customer == 2]) == {2}


def test_payments_are_ordered_inside_the_day_and_positive(days: list[Payments]) -> None:
    for day in days[:10]:
        assert (np.diff(day.second) >= 0).all()
        assert day.second.min() > 0
        assert day.second.max() < 86_400
        assert day.amount_cents.min() > 0


def test_amounts_follow_the_customer(population: Population, days: list[Payments]) -> None:
    customer = np.concatenate([day.customer for day in days])
    amount = np.concatenate([day.amount_cents for day in days]) / 100
    relative = amount / population.mean_amount[customer]
    # Normal with deviation m/2, redrawn around m where negative: the mean is m + (m/2)·pdf(2) = 1.027 m.
    # About 70,000 payments make one standard error 0.002.
    assert relative.mean() == pytest.approx(1.027, abs=0.008)


def test_large_amounts_are_fraud(days: list[Payments], scenarios: Scenarios) -> None:
    for day in range(30):
        scenario, _ = scenarios.of_day(day)
        large = days[day].amount_cents > 22_000
        assert (scenario[large] > 0).all()
        assert not (scenario[~large] == Scenario.LARGE_AMOUNT).any()


def test_a_compromised_terminal_is_fraud_for_28_days(days: list[Payments], scenarios: Scenarios) -> None:
    day = 40
    fresh = np.setdiff1d(scenarios.compromised_terminals(day), scenarios.compromised_terminals(day - 1))
    assert len(fresh)
    for later in range(day, day + TERMINAL_DAYS):
        assert np.isin(fresh, scenarios.compromised_terminals(later)).all()
        scenario, _ = scenarios.of_day(later)
        assert (scenario[np.isin(days[later].terminal, fresh)] >= Scenario.COMPROMISED_TERMINAL).all()
    ended = [np.isin(fresh, scenarios.compromised_terminals(day + TERMINAL_DAYS + more)).all() for more in range(5)]
    assert not all(ended)


def test_a_third_of_a_stolen_cards_payments_is_fraud_at_five_times_the_amount(days: list[Payments]) -> None:
    scenarios = Scenarios(
        seed=2, customers=CUSTOMERS, terminals=TERMINALS, prevalence=1, payments_of=lambda day: days[day]
    )
    starts = [day for day in range(60) if len(scenarios.cards_compromised_on(day))]
    cards = [int(card) for day in starts for card in scenarios.cards_compromised_on(day)]
    once = [(day, card) for day, card in zip(starts, cards, strict=True) if cards.count(card) == 1]
    assert len(once) >= 5
    for start, card in once:
        paid = stolen = 0
        for day in range(start, start + CARD_DAYS):
            scenario, amount_cents = scenarios.of_day(day)
            mine = days[day].customer == card
            struck = mine & (scenario == Scenario.COMPROMISED_CARD)
            paid, stolen = paid + int(mine.sum()), stolen + int(struck.sum())
            assert (amount_cents[struck] == 5 * days[day].amount_cents[struck]).all()
            assert (amount_cents[mine & ~struck] == days[day].amount_cents[mine & ~struck]).all()
        assert stolen == paid // 3


def test_strikes_add_up_to_their_rate() -> None:
    assert sum(struck_on(day, 0.6) for day in range(100)) == 60
    assert {struck_on(day, 2) for day in range(50)} == {2}
