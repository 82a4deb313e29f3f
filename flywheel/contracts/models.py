"""What a published model says of itself, and which models are deployed."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from flywheel.contracts.events import Utc
from flywheel.contracts.training import GateResult


class Role(StrEnum):
    """The part a deployed model plays."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"


class Histogram(BaseModel):
    """Frozen bins of one variable in the training reference.

    `edges` are the inner cut points (the outer bins are open); `counts` has one more entry than `edges`;
    `missing` counts NaN.
    """

    model_config = ConfigDict(frozen=True)

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    missing: int = 0


class ModelManifest(BaseModel):
    """Everything needed to serve, check and judge a model version without asking its trainer."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    usecase: str
    version: str
    algorithm: str
    created_at: Utc
    feature_names: tuple[str, ...]
    """Order of the columns of the model's input."""
    feature_fingerprint: str
    """Fingerprint of the declared features the model was trained on; serving refuses another."""
    digest: str
    """SHA-256 of the model file, hexadecimal."""
    snapshot_id: str
    code_commit: str
    trained_until: Utc
    metrics: dict[str, float]
    gates: tuple[GateResult, ...]
    reference: dict[str, Histogram]
    """Training distribution of every feature, by name."""
    score_reference: Histogram
    golden_inputs: tuple[tuple[float, ...], ...]
    golden_scores: tuple[float, ...]
    mlflow_run_id: str
    importance: dict[str, float] = {}
    """Each feature's share of what the model draws from its features; empty where nobody measured it."""


class Deployment(BaseModel):
    """One entry of the append-only deployment log. The newest entry is what serving runs."""

    model_config = ConfigDict(frozen=True)

    sequence: int
    usecase: str
    deployed_at: Utc
    deployed_by: str
    reason: str
    champion: str
    challenger: str | None = None
    challenger_share: float = 0.0
    salt: str = ""
    """Salt of the traffic split; a new one draws the arms anew."""
