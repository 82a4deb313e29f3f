"""Makes versions of appraised models: manifest, model store, and who takes which role."""

from __future__ import annotations

import math
import secrets
import subprocess
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.events import from_us
from flywheel.contracts.models import Deployment, Histogram, ModelManifest, Role
from flywheel.contracts.training import GateResult, HistoryBuilt
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.deployment import Author, with_role
from flywheel.kernel.drift import histogram
from flywheel.kernel.model_integrity import digest_of
from flywheel.kernel.ports import CorruptModel, ModelStore
from services.trainer.appraisal import Appraised
from services.trainer.learners import Rows

_GOLDEN_ROWS = 16


@dataclass(frozen=True)
class Run:
    """What all versions of one training run have in common.

    `reference` are the rows that later traffic is compared with: those of validation, which are the newest and which
    no model has learnt from.
    """

    usecase: UseCase
    history: HistoryBuilt
    mlflow_run_id: str
    at: datetime
    trained_until_us: int
    reference: Rows


def describe(run: Run, appraised: Appraised, gates: tuple[GateResult, ...]) -> ModelManifest:
    """The manifest of a model; its version is named by time and algorithm."""
    algorithm = appraised.fitted.algorithm
    golden, golden_scores = _golden(run.reference, appraised.scores)
    return ModelManifest(
        usecase=run.usecase.name,
        version=f"{run.at:%Y%m%dT%H%M%SZ}-{algorithm}",
        algorithm=algorithm,
        created_at=run.at,
        feature_names=run.usecase.feature_names,
        feature_fingerprint=run.usecase.fingerprint,
        digest=digest_of(appraised.model),
        snapshot_id=run.history.snapshot_id,
        code_commit=code_commit(),
        trained_until=from_us(run.trained_until_us),
        metrics={name: value for name, value in appraised.metrics.items() if math.isfinite(value)},
        gates=gates,
        reference=_references(run),
        score_reference=histogram(appraised.scores),
        golden_inputs=tuple(tuple(float(value) for value in row) for row in golden),
        golden_scores=tuple(float(score) for score in golden_scores),
        mlflow_run_id=run.mlflow_run_id,
        importance=_importance(run.usecase, appraised),
    )


def next_deployment(store: ModelStore, run: Run, *, champion: str, baseline: str | None, by: str) -> Deployment:
    """The deployment that makes `champion` so, or the canary where the use case declares a rollout.

    The champion before it becomes the challenger; where there is none that reads these features, the baseline does,
    and where that is None, there is no challenger. Beside a canary everybody keeps the role it has.
    """
    current = store.current(run.usecase.name)
    rollout = run.usecase.rollout
    if current and rollout and rollout.steps[0] < 1 and _reads_same(store, run.usecase, current.champion):
        author = Author(by, run.at, deployment_reason(run.history))
        return with_role(current, Role.CANARY, champion, rollout.steps[0], author)
    former = current.champion if current and _reads_same(store, run.usecase, current.champion) else None
    challenger = former or baseline
    return Deployment(
        sequence=current.sequence + 1 if current else 1,
        usecase=run.usecase.name,
        deployed_at=run.at,
        deployed_by=by,
        reason=deployment_reason(run.history),
        champion=champion,
        challenger=challenger,
        challenger_share=run.usecase.experiment.challenger_share if challenger else 0.0,
        salt=secrets.token_hex(8),
    )


def deployment_reason(history: HistoryBuilt) -> str:
    """Why the deployment was made, with the request that it answers."""
    return f"{history.reason} (request {history.request_id})"


def code_commit() -> str:
    """The commit of the running code, or `unknown` outside a checkout."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _golden(rows: Rows, scores: NDArray[np.float64]) -> tuple[Rows, NDArray[np.float64]]:
    """Some rows and their scores, over the whole range of scores; none of them holds anything but numbers."""
    usable = np.flatnonzero(np.isfinite(scores) & np.isfinite(rows).all(axis=1))
    ranked = usable[np.argsort(scores[usable], kind="stable")]
    chosen = ranked[np.linspace(0, len(ranked) - 1, min(_GOLDEN_ROWS, len(ranked))).astype(np.int64)]
    return rows[chosen], scores[chosen]


def _references(run: Run) -> dict[str, Histogram]:
    return {name: histogram(run.reference[:, index]) for index, name in enumerate(run.usecase.feature_names)}


def _importance(usecase: UseCase, appraised: Appraised) -> dict[str, float]:
    shares = appraised.fitted.importance()
    return {name: float(share) for name, share in zip(usecase.feature_names, shares, strict=True)}


def _reads_same(store: ModelStore, usecase: UseCase, version: str) -> bool:
    try:
        manifest, _ = store.load(usecase.name, version)
    except (KeyError, CorruptModel):
        return False
    return manifest.feature_fingerprint == usecase.fingerprint
