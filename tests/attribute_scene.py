"""Fraud with attributes of terminals and of cards, for tests of what is loaded from a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from flywheel.kernel import catalog
from flywheel.kernel.aggregation import at_request
from flywheel.kernel.attributes import AttributeRow, attributes
from flywheel.kernel.durations import DAY_US
from flywheel.kernel.features import Column, Entity
from flywheel.kernel.plan import compile_plan

_FRAUD = catalog.load("fraud")
CARD, TERMINAL = _FRAUD.entities
PAIR = Entity("pair", key=("terminal_id", "card_id"))
"""Its fields are not in the order of their names, which is Feast's."""

PROFILE_DEFAULT, SEGMENT_DEFAULT = -1.0, -2.0
VALID_US = 30 * DAY_US


def _over_limit(columns: Mapping[str, Column]) -> Column:
    return (columns["request.amount_cents"] > columns["terminal_floor_limit_cents"]).astype(np.float64)


USECASE = dataclasses.replace(
    _FRAUD,
    entities=(CARD, TERMINAL, PAIR),
    features=(
        *_FRAUD.features,
        *attributes("terminal_profile", "floor_limit_cents", "opened_days")
        .by(TERMINAL)
        .valid_for("30d", default=PROFILE_DEFAULT),
        *attributes("segments", "rank").by(CARD).valid_forever(default=SEGMENT_DEFAULT),
        *attributes("trust", "share").by(PAIR).valid_for("7d"),
        *at_request("over_limit", inputs=("request.amount_cents", "terminal_floor_limit_cents"), compute=_over_limit),
    ),
)
PLAN = compile_plan(USECASE)
PROFILE, SEGMENTS, TRUST = USECASE.attribute_tables


def profile(terminal: str, as_of_us: int, limit: float | None = 5_000.0, opened: float | None = 400.0) -> AttributeRow:
    """One row of the terminals' table."""
    return AttributeRow((terminal,), as_of_us, (limit, opened))
