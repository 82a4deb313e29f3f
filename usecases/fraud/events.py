"""What happens in the world of card payments."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from flywheel.contracts.events import PERSONAL, Event, Identifier

CardId = Annotated[Identifier, PERSONAL]
AmountCents = Annotated[int, Field(gt=0, le=100_000_000)]


class Transaction(Event):
    """A card is presented at a terminal. `event_id` is the transaction's id."""

    event_name: ClassVar[str] = "transaction"
    partition_key: ClassVar[str] = "card_id"

    card_id: CardId
    terminal_id: Identifier
    amount_cents: AmountCents


class Chargeback(Event):
    """The cardholder disputes a transaction as fraudulent; arrives days after it."""

    event_name: ClassVar[str] = "chargeback"
    partition_key: ClassVar[str] = "card_id"

    transaction_id: Identifier
    card_id: CardId
    terminal_id: Identifier
    amount_cents: AmountCents
