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
    CANARY = "canary"
    """Takes a share that grows by steps until it is the champion, or none again."""
    SHADOW = "shadow"
    """Scores what the others decide; never answers."""


class Histogram(BaseModel):
    """Frozen bins of one variable in the training reference.

    `edges` are the inner cut points (the outer bins are open); `counts` has one more entry than `edges`;
    `missing` counts NaN.
    """

    model_config = ConfigDict(frozen=True)

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    missing: int = 0


MODEL = "model"
"""Name of the component that every version has: the one that takes the features."""


class Component(BaseModel):
    """One ONNX file of a version that consists of several."""

    model_config = ConfigDict(frozen=True)

    name: str
    digest: str
    """SHA-256 of the file, hexadecimal."""
    chained: bool = False
    """Takes the score before it, shape (n, 1), and gives the score that counts. Otherwise it is asked by name alone."""


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
    attached: tuple[Component, ...] = ()
    """What belongs to the version beside its model: a calibrator, a retrieval model."""
    variant_of: str | None = None
    """The version of which this one is a smaller form."""

    @property
    def components(self) -> tuple[Component, ...]:
        """All files of the version, the model first."""
        return (Component(name=MODEL, digest=self.digest), *self.attached)


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
    canary: str | None = None
    canary_share: float = 0.0
    shadow: str | None = None
    withdrawn: str | None = None
    """The version that this entry takes away from traffic because it should not have had any."""

    def version_of(self, role: Role) -> str | None:
        """The version that plays the role, if one does."""
        versions = {Role.CHAMPION: self.champion, Role.CHALLENGER: self.challenger, Role.CANARY: self.canary}
        return versions.get(role, self.shadow)
