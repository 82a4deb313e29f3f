"""Which versions the model store holds, and which features each of them reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flywheel.kernel.ports import ModelStore
from services.monitor.deployed import tried


@dataclass(frozen=True)
class PublishedModel:
    """What is kept of a version's manifest."""

    version: str
    algorithm: str
    created_at: datetime
    features: frozenset[str]


class Published:
    """All published versions, each loaded once: a version never changes."""

    def __init__(self, models: ModelStore, usecase: str) -> None:
        self._models = models
        self._usecase = usecase
        self._known: dict[str, PublishedModel | None] = {}

    def newest_first(self) -> list[PublishedModel]:
        """Those that can be read; of another one the log tells, once."""
        for version in tried(lambda: self._models.versions(self._usecase)) or ():
            if version not in self._known:
                self._known[version] = self._load(version)
        found = [model for model in self._known.values() if model is not None]
        return sorted(found, key=lambda model: (model.created_at, model.version), reverse=True)

    def _load(self, version: str) -> PublishedModel | None:
        loaded = tried(lambda: self._models.load(self._usecase, version))
        if loaded is None:
            return None
        manifest, _ = loaded
        return PublishedModel(version, manifest.algorithm, manifest.created_at, frozenset(manifest.feature_names))
