"""A decision as it comes out of the pipeline, for tests of what is done with it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from flywheel.contracts.decisions import FeatureStatus
from flywheel.kernel.decision import Case, Decided, DecisionRequest
from flywheel.kernel.hydration import Hydrator, Subject
from flywheel.kernel.timing import Allowance
from tests.serving_parts import AT_US, USECASE, payment
from usecases.fraud.events import Transaction


def decided(**changes: Any) -> Decided:
    """A decision about a card that nobody may be told of; the changes are to its own fields."""
    subject = Subject(Transaction.model_validate_json(payment(card_id="c-secret")))
    allowance = Allowance(USECASE.budget, 0.0, math.inf)
    case = Case(DecisionRequest(b""), "r1", subject, "c-secret", allowance)
    lag_ms = changes.pop("feature_lag_ms", 1_500.0)
    hydrated = dataclasses.replace(Hydrator(USECASE).unavailable([subject]), lag_ms=lag_ms)
    made = Decided(
        case,
        "d1",
        "fraud",
        AT_US,
        "v1",
        hydrated,
        0,
        score=0.5,
        action="step_up",
        reasons=(),
        value=5_000.0,
        feature_names=("a",),
        features=[1.0],
        feature_status={"card": FeatureStatus.FRESH},
        feature_age_ms={},
    )
    made.stage_ms = {"queue": 0.1, "features": 1.0, "model": 0.5, "policy": 0.1, "total": 2.0}
    for name, value in changes.items():
        setattr(made, name, value)
    return made
