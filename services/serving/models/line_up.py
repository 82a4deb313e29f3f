"""Follows the deployment log: loads what it names, swaps whole line-ups, keeps the old one when the new one is bad."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable

from flywheel.adapters.last_good_models import LastGoodModels
from flywheel.adapters.logs import logger
from flywheel.contracts.metrics import (
    SERVING_ARMS_STOPPED,
    SERVING_MODEL_FAILURES,
    SERVING_MODEL_LOADED,
    SERVING_MODELS_DEGRADED,
)
from flywheel.contracts.models import Deployment, Role
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.lineup import Lineup, LoadedModel
from flywheel.kernel.ports import CorruptModel, ModelStore
from services.serving.models.loading import Guard, MakeScorer, ModelRefused, load, unguarded
from services.serving.models.pacing import Pacing, Rest, at_once

_EARLIER_TRIED = 5
_POLLS_BETWEEN_TRIES = 16
"""At most, while a version cannot be had for a reason that may pass."""
SHARE = 0.25
"""Of one core, while models are loaded beside one that answers."""
_STOPPABLE = (Role.CHALLENGER, Role.CANARY, Role.SHADOW)

_log = logger(__name__)


def settle() -> None:
    """Lets the garbage collector pass over all that is in use now, and frees what is not."""
    gc.collect()
    gc.freeze()


class Models:
    """The line-up of one use case. `lineup` may be called at any time, from any thread.

    With `last_good` a start does without a model store that is gone or broken, and says so until it is back. `paced`
    begins the rests of one refresh beside a model that answers.
    """

    def __init__(
        self,
        usecase: UseCase,
        store: ModelStore,
        make_scorer: MakeScorer,
        *,
        last_good: LastGoodModels | None = None,
        guard: Guard = unguarded,
        on_swap: Callable[[], object] = settle,
        paced: Callable[[], Rest] | None = None,
    ) -> None:
        self._usecase = usecase
        self._store = store
        self._make_scorer = make_scorer
        self._guard = guard
        self._last_good = last_good
        self._on_swap = on_swap
        self._hurry = threading.Event()
        self._paced = paced or (lambda: Pacing(SHARE, sleep=self._hurry.wait).rest)
        self._rest: Rest = at_once
        self._lineup = Lineup()
        self._served: Deployment | None = None
        self._refused: Deployment | None = None
        """What no further try would load better than it is loaded."""
        self._tried: Deployment | None = None
        self._waits = _Waits()
        self._lacking: dict[str, str] = {}
        """Versions that could not be had at the last try though another one may bring them, and why."""
        self._copied: set[str] = set()
        """Versions that were loaded from the local copy."""
        self._stopped: dict[str, str] = {}
        self._trouble = ""
        self._swapping = threading.Lock()

    def lineup(self) -> Lineup:
        """The models that answer now."""
        return self._lineup

    @property
    def detail(self) -> str:
        """What answers and what is wrong with it, in one line."""
        champion = self._lineup.champion
        if champion is None:
            return "degraded: no model yet, the rule answers"
        parts = [f"model {champion.version}"]
        if self._copied:
            parts.append(f"degraded: {', '.join(sorted(self._copied))} from the local copy")
        if self._trouble:
            parts.append(f"degraded: {self._trouble}")
        return "; ".join([*parts, *(f"stopped here: {version}: {why}" for version, why in self._stopped.items())])

    async def watch(self, every_s: float) -> None:
        """Looks at the log for ever. Loading happens beside the event loop, so that answers go on."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await asyncio.to_thread(self.refresh)
            except Exception as error:
                # Whatever it was: without its follower this process would miss every later deployment.
                _log.error("models_not_refreshed", reason=repr(error))

    def hurry(self) -> None:
        """What is being loaded rests no more, because the process is to end."""
        self._hurry.set()

    def refresh(self) -> None:
        """Brings the line-up to the newest deployment; whatever is wrong with that, the present one stays.

        Where a model answers, the next one may take a few times as long: it leaves the core to the answers.
        """
        self._rest = self._paced() if self._lineup.champion else at_once
        try:
            newest = self._store.current(self._usecase.name)
            if newest is not None:
                self._follow(newest)
                self._heal()
                self._troubled(self._trouble_with(newest))
            elif self._lineup.champion is not None:
                self._troubled("the deployment log is gone")
        except (OSError, ValueError) as error:
            self._troubled(f"the deployment log cannot be read: {error}")
        if self._lineup.champion is None:
            self._recall()
        SERVING_MODELS_DEGRADED.labels(self._usecase.name).set(bool(self._copied or self._trouble))

    def stop(self, version: str, reason: str) -> None:
        """Takes a challenger, canary or shadow out until another deployment names it otherwise; the champion answers.

        Champions stay: there is nothing better to answer with. Returns at once.
        """
        with self._swapping:
            roles = [role for role, model in self._lineup.models() if model.version == version and role in _STOPPABLE]
            if not roles:
                return
            self._stopped = {**self._stopped, version: reason}
            self._exchange(self._lineup)
        for role in roles:
            SERVING_ARMS_STOPPED.labels(self._usecase.name, role).inc()
            _log.error("arm_stopped", role=role, version=version, reason=reason)

    def _follow(self, newest: Deployment) -> None:
        if newest != self._tried:
            self._tried, self._waits = newest, _Waits()
        whole = newest == self._served and not self._lacking
        if whole or newest == self._refused or not self._waits.over():
            return
        self._lacking = {}
        found = self._lineup_of(newest) if self._lineup.champion else self._first(newest)
        if not self._lacking and (found is None or found.sequence != newest.sequence):
            self._refused = newest
        if found is not None:
            self._serve(found, newest)

    def _serve(self, found: Lineup, newest: Deployment) -> None:
        self._copied &= {model.version for _, model in found.models()}
        others = {newest.version_of(role) for role in _STOPPABLE}
        with self._swapping:
            self._stopped = {version: reason for version, reason in self._stopped.items() if version in others}
            swapped = self._exchange(found)
        if swapped:
            self._on_swap()
        if found.sequence != newest.sequence:
            return
        self._served = newest
        if self._last_good is None or self._copied or self._lacking:
            return
        try:
            self._last_good.keep(newest, self._store)
            self._rest()
        except (OSError, CorruptModel, KeyError) as error:
            _log.error("models_not_kept", sequence=newest.sequence, reason=str(error))

    def _trouble_with(self, newest: Deployment) -> str:
        """What of the newest deployment is not served here, beside what was stopped."""
        why = "".join(f"; {version}: {reason}" for version, reason in self._lacking.items())
        if newest != self._served:
            return f"deployment {newest.sequence} is {'held back' if why else 'refused'}{why}"
        there = {role for role, _ in self._lineup.models()}
        named = {role: newest.version_of(role) for role in Role if role not in there}
        missing = [f"{role} {version}" for role, version in named.items() if version and version not in self._stopped]
        if any(map(self._is_unsupported, named)) and named[Role.SHADOW]:
            why += f"; {self._usecase.name} ranks, which no shadow does beside: compare it as a challenger with a share"
        return f"without {', '.join(missing)}{why}" if missing else ""

    def _is_unsupported(self, role: Role) -> bool:
        return role is Role.SHADOW and self._usecase.ranks

    def _recall(self) -> None:
        """What was served before this start, where the deployment log says nothing."""
        kept = self._last_good.recall(self._usecase.name) if self._last_good else None
        if kept is None or kept == self._refused:
            return
        found = self._lineup_of(kept) or self._champion_of(kept)
        if found is None:
            if not self._lacking:
                self._refused = kept
            return
        self._troubled(self._trouble or "the deployment log is gone")
        _log.error("local_copy_served", sequence=kept.sequence, champion=kept.champion, reason=self._trouble)
        self._served = kept
        with self._swapping:
            self._exchange(found)
        self._on_swap()

    def _heal(self) -> None:
        """What was loaded from the local copy is as good as from the store once the store has the same."""
        for version in tuple(self._copied):
            try:
                held = self._store.load(self._usecase.name, version)[0]
                copied = self._last_good.store.load(self._usecase.name, version)[0] if self._last_good else None
            except (CorruptModel, KeyError, OSError):
                return
            if held != copied:
                return
            self._copied.discard(version)
            _log.info("model_store_healed", version=version)

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
        """None when a model that would answer cannot be had; a shadow is done without."""
        loaded: dict[Role, LoadedModel] = {}
        for role in Role:
            version = deployment.version_of(role)
            if version is None or self._is_unsupported(role):
                continue
            model = self._load(deployment, version)
            if model is not None:
                loaded[role] = model
            elif role is not Role.SHADOW:
                return None
        return Lineup(
            loaded[Role.CHAMPION],
            loaded.get(Role.CHALLENGER),
            deployment.challenger_share if Role.CHALLENGER in loaded else 0.0,
            deployment.salt,
            deployment.sequence,
            canary=loaded.get(Role.CANARY),
            canary_share=deployment.canary_share if Role.CANARY in loaded else 0.0,
            shadow=loaded.get(Role.SHADOW),
        )

    def _champion_of(self, deployment: Deployment) -> Lineup | None:
        """The deployment without the others, one of which could not be loaded."""
        if deployment.challenger is None and deployment.canary is None:
            return None
        champion = self._load(deployment, deployment.champion)
        return Lineup(champion, sequence=deployment.sequence) if champion is not None else None

    def _load(self, deployment: Deployment, version: str) -> LoadedModel | None:
        for _, model in self._lineup.models():
            if model.version == version:
                return model
        try:
            return load(self._store, self._usecase, version, self._make_scorer, self._guard, self._rest)
        except ModelRefused as error:
            reason = str(error)
        except (CorruptModel, KeyError, OSError) as error:
            copied = self._from_copy(deployment, version)
            if copied is not None:
                return copied
            reason = self._lacking[version] = f"{type(error).__name__}: {error}"
        SERVING_MODEL_FAILURES.labels(self._usecase.name, "loading").inc()
        _log.error("model_refused", sequence=deployment.sequence, version=version, reason=reason)
        return None

    def _from_copy(self, deployment: Deployment, version: str) -> LoadedModel | None:
        if self._last_good is None:
            return None
        try:
            model = load(self._last_good.store, self._usecase, version, self._make_scorer, self._guard, self._rest)
        except (CorruptModel, ModelRefused, KeyError, OSError):
            return None
        _log.error("local_copy_loaded", sequence=deployment.sequence, version=version)
        self._copied.add(version)
        return model

    def _exchange(self, found: Lineup) -> bool:
        """Brings that line-up in, without what was stopped; says whether it differs. To be called under the lock."""
        for role, model in found.models():
            if role in _STOPPABLE and model.version in self._stopped:
                found = found.without(role)
        if found == self._lineup:
            return False
        gone, self._lineup = self._lineup, found
        self._show(gone, found)
        _log.info(
            "models_swapped",
            sequence=found.sequence,
            challenger_share=found.challenger_share,
            canary_share=found.canary_share,
            **{role.value: model.version for role, model in found.models()},
        )
        return True

    def _show(self, gone: Lineup, found: Lineup) -> None:
        loaded = {(role, model.version) for role, model in found.models()}
        for role, version in loaded:
            SERVING_MODEL_LOADED.labels(self._usecase.name, role, version).set(1)
        # Removed rather than set to 0, or each version that ever served would be a series for ever.
        for role, version in {(role, model.version) for role, model in gone.models()} - loaded:
            SERVING_MODEL_LOADED.remove(self._usecase.name, role, version)

    def _troubled(self, reason: str) -> None:
        if reason and reason != self._trouble:
            _log.error("models_not_refreshed", reason=reason)
        self._trouble = reason


class _Waits:
    """Tries again at once, then after ever more polls."""

    def __init__(self) -> None:
        self._left, self._between = 0, 1

    def over(self) -> bool:
        """Whether this poll is one to try at."""
        if self._left:
            self._left -= 1
            return False
        self._left, self._between = self._between, min(2 * self._between, _POLLS_BETWEEN_TRIES)
        return True
