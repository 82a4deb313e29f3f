"""The handbook's own data set: its sizes, its days, its chargebacks after exactly a week.

For comparing a model with the handbook's published figures; see `usecases.fraud.world` for the world itself.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from usecases.fraud.simulation.population import HANDBOOK_CUSTOMERS, HANDBOOK_TERMINALS
from usecases.fraud.world import FraudWorld, Knobs, card_id, terminal_id

DAYS = 183
CHARGEBACK_DELAY_DAYS = 7


def handbook_knobs(seed: int = 0) -> Knobs:
    """Knobs under which the world is the handbook's."""
    return Knobs(
        seed=seed,
        customers=HANDBOOK_CUSTOMERS,
        terminals=HANDBOOK_TERMINALS,
        label_delay_min_days=CHARGEBACK_DELAY_DAYS,
        label_delay_max_days=CHARGEBACK_DELAY_DAYS,
        late_share=0,
        duplicate_share=0,
        malformed_share=0,
    )


def transactions(seed: int = 0, days: int = DAYS) -> pa.Table:
    """Every transaction of the handbook's world with its label, ordered by time; about 9,500 a day.

    Columns: event_id, event_time (UTC, microseconds), card_id, terminal_id (dictionary-encoded strings),
    amount_cents (int64), is_fraud (bool), scenario (int8, 0 for none). The chargeback of a fraud comes
    `CHARGEBACK_DELAY_DAYS` after it.
    """
    knobs = handbook_knobs(seed)
    world = FraudWorld(knobs)
    drawn = [world.payments(number) for number in range(days)]
    scenario = np.concatenate([day.scenario for day in drawn])
    time_us = np.concatenate([day.time_us for day in drawn])
    return pa.table(
        {
            "event_id": [f"tx-{number}-{row}" for number, day in enumerate(drawn) for row in range(len(day.time_us))],
            "event_time": pa.array(time_us, pa.timestamp("us")).cast(pa.timestamp("us", "UTC")),
            "card_id": _named([card_id(n) for n in range(knobs.customers)], [day.customer for day in drawn]),
            "terminal_id": _named(
                [terminal_id(n) for n in range(knobs.terminal_count)], [day.terminal for day in drawn]
            ),
            "amount_cents": np.concatenate([day.amount_cents for day in drawn]),
            "is_fraud": scenario > 0,
            "scenario": scenario,
        }
    )


def _named(names: list[str], numbers: list[np.ndarray]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.concatenate(numbers).astype(np.int32)), pa.array(names))
