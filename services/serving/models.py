"""Follows the deployment log: loads what it names, swaps whole line-ups, keeps the old one when the new one is bad."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

from flywheel.adapters.logs import logger
from flywheel.contracts.metrics import SERVING_MODEL_FAILURES, SERVING_MODEL_LOADED
from flywheel.contracts.models import Deployment
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.lineup import Lineup, LoadedModel
from flywheel.kernel.ports import CorruptModel, ModelStore
from services.serving.loading import MakeScorer, ModelRefused, load

_EARLIER_TRIED = 5

_log = logger(__name__)


class Models:
    """The line-up of one use case. `lineup` may be called at any time, from any thread."""

    def __init__(
        self,
        usecase: UseCase,
        store: ModelStore,
        make_scorer: MakeScorer,
        *,
        on_swap: Callable[[], object] = gc.freeze,
    ) -> None:
        self._usecase = usecase
        self._store = store
        self._make_scorer = make_scorer
        self._on_swap = on_swap
        self._lineup = Lineup()
        self._refused = 0
        self._trouble = ""

    def lineup(self) -> Lineup:
        """The models that answer now."""
        return self._lineup

    async def watch(self, every_s: float) -> None:
        """Looks at the log for ever. Loading happens beside the event loop, so that answers go on."""
        while True:
            await asyncio.sleep(every_s)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Brings the line-up to the newest deployment; whatever is wrong with that, the present one stays."""
        try:
            newest = self._store.current(self._usecase.name)
            if newest is None or newest.sequence in (self._lineup.sequence, self._refused):
                return
            found = self._lineup_of(newest) if self._lineup.champion else self._first(newest)
        except (OSError, ValueError) as error:
            self._troubled(f"the model store cannot be read: {error}")
            return
        self._trouble = ""
        if found is not None:
            self._swap(found)

    def _first(self, newest: Deployment) -> Lineup | None:
        """The newest line-up that can be loaded; at the start an earlier one is better than none."""
        log = self._store.deployments(self._usecase.name)
        for deployment in reversed(log[-_EARLIER_TRIED:]):
            found = self._lineup_of(deployment) or self._champion_of(deployment)
            if found is not None:
                if deployment.sequence != newest.sequence:
                    _log.warning("earlier_deployment_served", sequence=deployment.sequence, newest=newest.sequence)
                return found
        return None

    def _lineup_of(self, deployment: Deployment) -> Lineup | None:
        champion = self._load(deployment, deployment.champion)
        challenger = None
        if champion is not None and deployment.challenger is not None:
            challenger = self._load(deployment, deployment.challenger)
        if champion is None or (challenger is None and deployment.challenger is not None):
            self._refused = max(self._refused, deployment.sequence)
            return None
        return Lineup(champion, challenger, deployment.challenger_share, deployment.salt, deployment.sequence)

    def _champion_of(self, deployment: Deployment) -> Lineup | None:
        """The deployment without the challenger that could not be loaded."""
        champion = self._load(deployment, deployment.champion) if deployment.challenger is not None else None
        return Lineup(champion, sequence=deployment.sequence) if champion is not None else None

    def _load(self, deployment: Deployment, version: str) -> LoadedModel | None:
        for _, model in self._lineup.models():
            if model.version == version:
                return model
        try:
            return load(self._store, self._usecase, version, self._make_scorer)
        except (CorruptModel, ModelRefused, KeyError) as error:
            SERVING_MODEL_FAILURES.labels(self._usecase.name, "loading").inc()
            _log.error("model_refused", sequence=deployment.sequence, version=version, reason=str(error))
            return None

    def _swap(self, found: Lineup) -> None:
        gone, self._lineup = self._lineup, found
        self._show(gone, found)
        _log.info(
            "models_swapped",
            sequence=found.sequence,
            champion=found.champion.version if found.champion else None,
            challenger=found.challenger.version if found.challenger else None,
            challenger_share=found.challenger_share,
        )
        self._on_swap()

    def _show(self, gone: Lineup, found: Lineup) -> None:
        loaded = {(role, model.version) for role, model in found.models()}
        for role, version in loaded:
            SERVING_MODEL_LOADED.labels(self._usecase.name, role, version).set(1)
        # Removed rather than set to 0, or each version that ever served would be a series for ever.
        for role, version in {(role, model.version) for role, model in gone.models()} - loaded:
            SERVING_MODEL_LOADED.remove(self._usecase.name, role, version)

    def _troubled(self, reason: str) -> None:
        if reason != self._trouble:
            self._trouble = reason
            _log.error("models_not_refreshed", reason=reason)
