"""Which models read the features as they are declared now, and whether one of them is deployed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flywheel.contracts.models import ModelManifest
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.ports import CorruptModel, ModelStore


def is_deployed(models: ModelStore, usecase: UseCase) -> bool:
    """Whether a model is deployed that reads the features as they are declared now."""
    current = models.current(usecase.name)
    return current is not None and any(fitting(models, usecase, [current.champion]))


def fitting(models: ModelStore, usecase: UseCase, versions: Sequence[str]) -> Iterator[ModelManifest]:
    """The manifests of those versions that are sound and read the features as they are declared now."""
    for version in versions:
        try:
            manifest, _ = models.load(usecase.name, version)
        except (KeyError, CorruptModel):
            continue
        if manifest.feature_fingerprint == usecase.fingerprint:
            yield manifest
