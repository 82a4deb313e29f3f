"""Real-time card-fraud detection, declared."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flywheel.kernel.admission import Criticality
from flywheel.kernel.aggregation import at_request, count, largest, mean, ratio, total
from flywheel.kernel.declaration import (
    CostPolicy,
    Experiment,
    Label,
    LatencyBudget,
    ReasonCode,
    RuleScore,
    UseCase,
)
from flywheel.kernel.durations import DAY_US, HOUR_US
from flywheel.kernel.features import Column, Entity
from usecases.fraud.events import Chargeback, Transaction

card = Entity("card", key="card_id")
terminal = Entity("terminal", key="terminal_id")


def _hour_of_day(columns: Mapping[str, Column]) -> Column:
    return np.floor(columns["request.event_time_us"] % DAY_US / HOUR_US)


def _is_weekend(columns: Mapping[str, Column]) -> Column:
    # 1970-01-01 was a Thursday: day 2 after it was the first Saturday.
    return (np.floor(columns["request.event_time_us"] / DAY_US - 2) % 7 < 2).astype(np.float64)


def _amount(columns: Mapping[str, Column]) -> Column:
    return columns["request.amount_cents"]


def _amount_vs_mean(columns: Mapping[str, Column]) -> Column:
    usual = columns["card_transaction_amount_cents_mean_30d"]
    return columns["request.amount_cents"] / np.maximum(usual, 1.0)


def _rule(request: Mapping[str, float]) -> float:
    return 0.6 if request["amount_cents"] > 22_000 else 0.005


usecase = UseCase(
    name="fraud",
    title="Card-fraud detection",
    events=(Transaction, Chargeback),
    request=Transaction,
    entities=(card, terminal),
    features=(
        *at_request(
            "amount_cents", inputs=("request.amount_cents",), compute=_amount, meaning="Amount (cents) of the payment"
        ),
        *at_request(
            "hour_of_day", inputs=("request.event_time_us",), compute=_hour_of_day, meaning="Hour of the day, UTC"
        ),
        *at_request(
            "is_weekend",
            inputs=("request.event_time_us",),
            compute=_is_weekend,
            meaning="1 on Saturdays and Sundays, UTC",
        ),
        *count(Transaction).by(card).over("1m", "1h", "24h", "7d", "30d"),
        *total(Transaction, "amount_cents").by(card).over("24h"),
        *mean(Transaction, "amount_cents").by(card).over("24h", "7d", "30d"),
        *largest(Transaction, "amount_cents").by(card).over("7d", "30d"),
        *at_request(
            "amount_vs_card_mean_30d",
            inputs=("request.amount_cents", "card_transaction_amount_cents_mean_30d"),
            compute=_amount_vs_mean,
            meaning="Amount of the payment against the card's mean over 30 d",
        ),
        *count(Chargeback).by(card).over("7d", "30d"),
        *count(Transaction).by(terminal).over("1h", "24h", "7d"),
        *mean(Transaction, "amount_cents").by(terminal).over("7d"),
        *count(Chargeback).by(terminal).over("24h", "7d", "30d"),
        *count(Transaction).by(terminal).delayed("7d").in_steps_of("1h").over("24h", "7d"),
        *count(Transaction).by(terminal).delayed("7d").over("30d"),
        *ratio("terminal_risk_24h", "terminal_chargeback_count_24h", "terminal_transaction_count_24h_delayed_7d"),
        *ratio("terminal_risk_7d", "terminal_chargeback_count_7d", "terminal_transaction_count_7d_delayed_7d"),
        *ratio("terminal_risk_30d", "terminal_chargeback_count_30d", "terminal_transaction_count_30d_delayed_7d"),
    ),
    label=Label(Chargeback, joins="transaction_id", matures_after="7d"),
    policy=CostPolicy(
        amount_field="amount_cents",
        decline_cost_share=0.05,
        decline_cost=1_000,
        step_up_cost=40,
        step_up_catches=0.85,
        loss_overhead=1_500,
    ),
    budget=LatencyBudget(total_ms=50, features_ms=20, model_ms=15),
    fallback=RuleScore("amount_above_220", _rule),
    reasons=(
        ReasonCode("terminal_has_chargebacks", "terminal_chargeback_count_30d", above=0),
        ReasonCode("amount_far_above_usual", "amount_vs_card_mean_30d", above=3),
        ReasonCode("amount_high", "amount_cents", above=22_000),
        ReasonCode("card_had_chargebacks", "card_chargeback_count_30d", above=0),
        ReasonCode("card_used_often_within_an_hour", "card_transaction_count_1h", above=4),
    ),
    experiment=Experiment(unit="card_id", challenger_share=0.2),
    lateness="24h",
    freshness="10s",
    world="usecases.fraud.world",
    owner="payments risk",
    criticality=Criticality.CRITICAL,
    durable_log=True,
)
