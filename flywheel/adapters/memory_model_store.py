"""The in-memory twin of the model store, for tests without a disk."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType

from flywheel.contracts.models import MODEL, Deployment, ModelManifest
from flywheel.kernel.model_integrity import check_attached, check_component, check_digest, check_next, component_named
from flywheel.kernel.ports import CorruptModel

_ALONE: Mapping[str, bytes] = MappingProxyType({})


class MemoryModelStore:
    """Models and deployments in dictionaries."""

    def __init__(self) -> None:
        self.models: dict[tuple[str, str], tuple[ModelManifest, bytes]] = {}
        self.attached: dict[tuple[str, str], dict[str, bytes]] = {}
        self._deployments: dict[str, list[Deployment]] = {}
        self._lock = threading.Lock()

    def publish(self, manifest: ModelManifest, model: bytes, attached: Mapping[str, bytes] = _ALONE) -> None:
        """Stores a version; again with the same content is harmless, with other content a ValueError."""
        check_digest(manifest, model, ValueError)
        check_attached(manifest, attached)
        self.attached.setdefault((manifest.usecase, manifest.version), dict(attached))
        published = self.models.setdefault((manifest.usecase, manifest.version), (manifest, model))
        if published != (manifest, model):
            raise ValueError(f"{manifest.version} is published already, with other content")

    def load(self, usecase: str, version: str) -> tuple[ModelManifest, bytes]:
        """A version, its digest verified. KeyError when unknown, CorruptModel when the bytes do not match."""
        manifest, model = self.models[usecase, version]
        check_digest(manifest, model, CorruptModel)
        return manifest, model

    def component(self, usecase: str, version: str, name: str) -> bytes:
        """One file of a version, verified like the model. KeyError when there is none of that name, CorruptModel."""
        manifest, model = self.load(usecase, version)
        component = component_named(manifest, name)
        if name == MODEL:
            return model
        content = self.attached[usecase, version][name]
        check_component(version, component, content, CorruptModel)
        return content

    def versions(self, usecase: str) -> list[str]:
        """Names of all published versions, sorted."""
        # A copy first: somebody may publish meanwhile.
        return sorted(version for owner, version in list(self.models) if owner == usecase)

    def deploy(self, deployment: Deployment) -> None:
        """Appends to the log; ValueError unless `sequence` is one past the newest (1 for the first).

        Unsupported, which is one too, where its roles contradict each other.
        """
        with self._lock:
            log = self._deployments.setdefault(deployment.usecase, [])
            check_next(deployment, log)
            log.append(deployment)

    def deployments(self, usecase: str) -> list[Deployment]:
        """The whole log, oldest first."""
        return list(self._deployments.get(usecase, ()))

    def current(self, usecase: str) -> Deployment | None:
        """The newest entry."""
        log = self._deployments.get(usecase)
        return log[-1] if log else None
