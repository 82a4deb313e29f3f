"""Loads one model version and proves that it is what its manifest says, before any request meets it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from flywheel.adapters.logs import logger
from flywheel.contracts.models import MODEL, ModelManifest
from flywheel.kernel.attribution import Explaining, NotExplainable
from flywheel.kernel.chain import Chain
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.lineup import LoadedModel
from flywheel.kernel.ports import ModelStore, Scorer
from services.serving.models.pacing import Rest, at_once

GOLDEN_TOLERANCE = 1e-5
_WARM_UP_CALLS = 50

MakeScorer = Callable[[bytes], Scorer]
Guard = Callable[[Scorer], Scorer]

_log = logger(__name__)


def unguarded(scorer: Scorer) -> Scorer:
    """The scorer itself."""
    return scorer


class ModelRefused(Exception):
    """The version does not fit what is served here; another try would end the same."""


def load(
    store: ModelStore,
    usecase: UseCase,
    version: str,
    make_scorer: MakeScorer,
    guard: Guard = unguarded,
    rest: Rest = at_once,
) -> LoadedModel:
    """The version, checked, warm and behind that guard. Between its steps it rests.

    Raises ModelRefused, CorruptModel, and KeyError when there is no such version.
    """
    manifest, model = store.load(usecase.name, version)
    _check_features(manifest, usecase)
    components = {MODEL: make_scorer(model)}
    rest()
    for part in manifest.attached:
        components[part.name] = make_scorer(store.component(usecase.name, version, part.name))
        rest()
    scorer = _scorer(manifest, components)
    rows = np.array(manifest.golden_inputs, np.float32).reshape(-1, len(manifest.feature_names))
    _check_golden(manifest, scorer, rows)
    _check_speed(version, scorer, rows, usecase.budget.model_ms)
    rest()
    if isinstance(scorer, Explaining):
        # The first explanation takes longer than an answer has time for.
        _explain_once(version, scorer, rows[0])
        rest()
    return LoadedModel(version, guard(scorer), components)


def _scorer(manifest: ModelManifest, components: Mapping[str, Scorer]) -> Scorer:
    corrections = [components[part.name] for part in manifest.attached if part.chained]
    return Chain(components[MODEL], corrections) if corrections else components[MODEL]


def _explain_once(version: str, scorer: Explaining, row: NDArray[np.float32]) -> None:
    try:
        scorer.explain(row)
    except NotExplainable:
        pass
    except Exception:
        # Whatever it is, the model answers all the same.
        _log.exception("model_not_explained", version=version)


def _check_features(manifest: ModelManifest, usecase: UseCase) -> None:
    if manifest.feature_fingerprint != usecase.fingerprint:
        raise ModelRefused(
            f"{manifest.version} was trained on other features ({manifest.feature_fingerprint}) than are declared "
            f"({usecase.fingerprint}); train a new model"
        )
    if manifest.feature_names != usecase.feature_names:
        raise ModelRefused(f"{manifest.version} orders its features in another way than they are declared")


def _check_golden(manifest: ModelManifest, scorer: Scorer, rows: NDArray[np.float32]) -> None:
    if not len(rows) or len(rows) != len(manifest.golden_scores):
        raise ModelRefused(f"{manifest.version} brings no golden rows to check it by")
    try:
        scores = scorer.score(rows)
    except Exception as error:
        # Engines raise errors of their own kinds; a model that cannot score its golden rows can score nothing.
        raise ModelRefused(f"{manifest.version} does not score: {error}") from error
    deviation = float(np.max(np.abs(scores - np.array(manifest.golden_scores))))
    if not deviation <= GOLDEN_TOLERANCE:
        raise ModelRefused(f"{manifest.version} deviates by {deviation} from its golden scores")


def _check_speed(version: str, scorer: Scorer, rows: NDArray[np.float32], budget_ms: float) -> None:
    """Warms the model up; the median of its calls must be within the model's share of the latency budget."""
    spent_ms = []
    for call in range(_WARM_UP_CALLS):
        row = rows[call % len(rows)].reshape(1, -1)
        started = time.perf_counter()
        scorer.score(row)
        spent_ms.append((time.perf_counter() - started) * 1000)
    median_ms = statistics.median(spent_ms)
    if median_ms > budget_ms:
        raise ModelRefused(f"{version} takes {median_ms:.1f} ms a row where {budget_ms} ms are declared")
