"""A decision as it was made, and the bytes in which it is logged."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from flywheel.contracts.decisions import DecisionLogged, Fallback, FeatureStatus, Step
from flywheel.contracts.events import from_us, iso_utc
from flywheel.contracts.models import Role
from flywheel.kernel.decision.requests import Case
from flywheel.kernel.hydration import Hydrated


@dataclass(slots=True)
class Answered:
    """What every answer says of itself, whatever it is about."""

    case: Case
    decision_id: str
    usecase: str
    decided_at_us: int
    model_version: str
    """Of what gave the score: a model, or the rule by its name."""
    hydrated: Hydrated
    row: int
    """The first of its rows in `hydrated`."""
    stage_ms: dict[str, float] = field(default_factory=dict, init=False)

    @property
    def request_id(self) -> str:
        return self.case.request_id

    @property
    def unit(self) -> str:
        return self.case.unit

    @property
    def arm(self) -> Role:
        return self.case.arm

    @property
    def fallback(self) -> Fallback:
        return self.case.why

    @property
    def step(self) -> Step:
        return self.case.step

    @property
    def propensity(self) -> float:
        return self.case.propensity

    @property
    def event_id(self) -> str:
        return self.case.subject.event.event_id

    @property
    def feature_lag_ms(self) -> float:
        return self.hydrated.lag_ms

    def common_fields(self) -> dict[str, Any]:
        """The fields that the records of all answers have."""
        case = self.case
        return {
            "decision_id": self.decision_id,
            "request_id": case.request_id,
            "usecase": self.usecase,
            "event_id": case.subject.event.event_id,
            "event_time": iso_utc(case.subject.event.event_time),
            "decided_at": _moment(self.decided_at_us),
            "unit": case.unit,
            "arm": case.arm,
            "propensity": case.propensity,
            "model_version": self.model_version,
            "fallback": case.why,
            "step": case.step,
            "criticality": case.criticality,
            "feature_lag_ms": self.hydrated.lag_ms,
            "stage_ms": self.stage_ms,
        }


@dataclass(slots=True)
class Decided(Answered):
    """One decision about one subject."""

    score: float
    action: str
    reasons: tuple[str, ...]
    value: float
    feature_names: tuple[str, ...]
    """Of the features that are known; all of them where the model decided."""
    features: list[float]
    feature_status: dict[str, FeatureStatus]
    feature_age_ms: dict[str, float]

    @property
    def model_row(self) -> NDArray[np.float32]:
        """The row that the model was shown, or would have been, shape (1, features)."""
        return self.hydrated.rows[self.row : self.row + 1]

    def logged(self) -> DecisionLogged:
        """The record as its readers see it."""
        return DecisionLogged.model_validate_json(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The bytes of a `DecisionLogged`."""
        record = self.common_fields()
        record |= {
            "score": self.score,
            "action": self.action,
            "reasons": self.reasons,
            "feature_names": _names(self.feature_names),
            "features": self.features,
            "feature_status": self.feature_status,
            "feature_age_ms": self.feature_age_ms,
            "value": self.value,
        }
        if not self.hydrated.finite:
            # JSON has no words for these; they are written as Python, and pydantic, write and read them.
            record["features"] = [orjson.Fragment(json_number(value)) for value in self.features]
        return orjson.dumps(record)


@lru_cache(maxsize=64)
def _moment(us: int) -> str:
    """Decisions that are made together have one."""
    return iso_utc(from_us(us))


@lru_cache(maxsize=1_024)
def _names(names: tuple[str, ...]) -> orjson.Fragment:
    """There are few kinds: all features, or those that are left where something is unavailable."""
    return orjson.Fragment(orjson.dumps(names))


def json_number(value: float) -> bytes:
    """The number as pydantic reads and writes it in JSON, which has no words for what is not finite."""
    if value != value:
        return b"NaN"
    return orjson.dumps(value) if abs(value) != np.inf else b"Infinity" if value > 0 else b"-Infinity"
