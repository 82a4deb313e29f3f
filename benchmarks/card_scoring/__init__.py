"""The problem that serving is measured with: thirty stored attributes of a card, and the action of least cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from flywheel.contracts.events import Event, Identifier
from flywheel.kernel.attributes import attributes
from flywheel.kernel.declaration import CostPolicy, Experiment, Label, LatencyBudget, RuleScore, UseCase
from flywheel.kernel.features import Entity

FEATURES = 30

AmountCents = Annotated[int, Field(gt=0, le=100_000_000)]


class Payment(Event):
    """A card pays."""

    event_name: ClassVar[str] = "payment"
    partition_key: ClassVar[str] = "card_id"

    card_id: Identifier
    amount_cents: AmountCents


class Dispute(Event):
    """The payment was not the cardholder's."""

    event_name: ClassVar[str] = "dispute"
    partition_key: ClassVar[str] = "card_id"

    payment_id: Identifier
    card_id: Identifier


def _rule(request: Mapping[str, float]) -> float:
    return 0.6 if request["amount_cents"] > 22_000 else 0.005


card = Entity("card", key="card_id")

usecase = UseCase(
    name="card_scoring",
    title="Scoring cards by stored attributes",
    events=(Payment, Dispute),
    request=Payment,
    entities=(card,),
    features=(*attributes("profile", *(f"trait_{n}" for n in range(FEATURES))).by(card).valid_forever(),),
    label=Label(Dispute, joins="payment_id", matures_after="7d"),
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
    reasons=(),
    experiment=Experiment(unit="card_id", challenger_share=0.0),
    lateness="24h",
    freshness="10s",
)
