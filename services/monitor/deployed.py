"""What is deployed now, read from the model store."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flywheel.adapters.logs import logger
from flywheel.contracts.models import Deployment, ModelManifest
from flywheel.kernel.ports import CorruptModel, ModelStore
from services.monitor.state import DeployedModel

_log = logger(__name__)
T = TypeVar("T")


class Deployed:
    """The newest deployment and its champion's manifest, each version loaded once."""

    def __init__(self, models: ModelStore, usecase: str) -> None:
        self._models = models
        self._usecase = usecase
        self.deployment: Deployment | None = None
        self.manifest: ModelManifest | None = None

    def refresh(self) -> None:
        """Looks again. What cannot be read is logged, and what was read before stays."""
        current = tried(lambda: self._models.current(self._usecase))
        if current is None:
            return
        self.deployment = current
        if self.manifest is None or self.manifest.version != current.champion:
            loaded = tried(lambda: self._models.load(self._usecase, current.champion))
            self.manifest = loaded[0] if loaded else None

    def state(self) -> DeployedModel | None:
        """As the console shows it; None before the first deployment."""
        if self.deployment is None or self.manifest is None:
            return None
        return DeployedModel(
            champion=self.deployment.champion,
            challenger=self.deployment.challenger,
            challenger_share=self.deployment.challenger_share,
            algorithm=self.manifest.algorithm,
            trained_until=self.manifest.trained_until,
            deployed_at=self.deployment.deployed_at,
            deployed_by=self.deployment.deployed_by,
            reason=self.deployment.reason,
            metrics=dict(self.manifest.metrics),
            canary=self.deployment.canary,
            canary_share=self.deployment.canary_share,
            shadow=self.deployment.shadow,
            withdrawn=self.deployment.withdrawn,
        )


def tried(read: Callable[[], T]) -> T | None:
    """What `read` gives; None, and a line in the log, when the store cannot be read."""
    try:
        return read()
    except (CorruptModel, KeyError, OSError, ValueError) as error:
        _log.error("model_unreadable", error=str(error))
        return None
