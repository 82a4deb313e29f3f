"""Whether a model of the declared features is deployed, and if none is, why and what to do."""

from __future__ import annotations

from collections.abc import Iterator

from flywheel.contracts.models import ModelManifest
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.ports import CorruptModel, ModelStore


def is_deployed(models: ModelStore, usecase: UseCase) -> bool:
    """Whether a model is deployed that reads the features as they are declared now."""
    current = models.current(usecase.name)
    return current is not None and any(_fitting(models, usecase, [current.champion]))


def told_when_undeployed(models: ModelStore, usecase: UseCase) -> str:
    """One sentence for whoever thinks that a model decides; empty when one is deployed."""
    if is_deployed(models, usecase):
        return ""
    return f"No model is deployed: the rule of {usecase.name} answers. {_why(models, usecase)}"


def _why(models: ModelStore, usecase: UseCase) -> str:
    found = list(_fitting(models, usecase, models.versions(usecase.name)))
    if not found:
        return "None of the declared features is trained yet; once there are labels: make train"
    newest = max(found, key=lambda manifest: manifest.created_at)
    failed = ", ".join(gate.name for gate in newest.gates if not gate.passed)
    what = f"did not pass {failed}" if failed else "was not deployed"
    return f"The newest, {newest.version}, {what} (make models). Once there are more labels: make train"


def _fitting(models: ModelStore, usecase: UseCase, versions: list[str]) -> Iterator[ModelManifest]:
    for version in versions:
        try:
            manifest, _ = models.load(usecase.name, version)
        except (KeyError, CorruptModel):
            continue
        if manifest.feature_fingerprint == usecase.fingerprint:
            yield manifest
