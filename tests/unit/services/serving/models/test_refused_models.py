"""Whatever is wrong with a new model, the old one goes on answering."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from flywheel.adapters.memory_model_store import MemoryModelStore
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.kernel.ports import Scorer
from tests.line_up_scene import flipped, following, versions
from tests.serving_parts import USECASE, deploy, manifest_of, publish, tiny_model


class Constant:
    """Deviates from every golden score."""

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.full(len(rows), 0.123)


class Silent(Constant):
    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.full(len(rows), np.nan)


class Failing(Constant):
    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        raise RuntimeError(f"cannot score {rows.shape}")


@pytest.mark.parametrize(
    "changes",
    [
        {"feature_fingerprint": "0" * 16},
        {"feature_names": tuple(reversed(USECASE.feature_names))},
        {"golden_inputs": (), "golden_scores": ()},
        {"golden_scores": (0.5, 0.5, 0.5, 0.5, 0.5)},
    ],
)
def test_a_model_that_is_not_what_it_should_be_leaves_the_old_one(
    store: MemoryModelStore, changes: dict[str, object]
) -> None:
    models = following(store)
    publish(store, "v1")
    deploy(store, "v1")
    models.refresh()
    model = tiny_model()
    store.publish(manifest_of("v2", model, **changes), model)
    deploy(store, "v2")
    models.refresh()
    assert versions(models) == ["v1"]


@pytest.mark.parametrize("kind", [Constant, Silent, Failing])
def test_a_model_that_does_not_reproduce_its_golden_scores_is_refused(
    store: MemoryModelStore, kind: type[Constant]
) -> None:
    def make(model: bytes) -> Scorer:
        return kind() if model == tiny_model(bias=-1.0) else OnnxScorer(model)

    models = following(store, make)
    publish(store, "v1")
    deploy(store, "v1")
    publish(store, "v2", bias=-1.0)
    models.refresh()
    deploy(store, "v2")
    models.refresh()
    assert versions(models) == ["v1"]


def test_a_refused_deployment_is_not_loaded_again_but_the_next_one_is(store: MemoryModelStore) -> None:
    made: list[bytes] = []

    def make(model: bytes) -> Scorer:
        made.append(model)
        return OnnxScorer(model)

    models = following(store, make)
    publish(store, "v1")
    deploy(store, "v1")
    models.refresh()
    publish(store, "v2", golden_scores=(9.0,) * 5)
    deploy(store, "v2")
    for _ in range(3):
        models.refresh()
    assert len(made) == 2
    publish(store, "v3", bias=-2.0)
    deploy(store, "v3")
    models.refresh()
    assert versions(models) == ["v3"]


def test_a_flipped_bit_and_an_unknown_version_leave_the_old_model(store: MemoryModelStore) -> None:
    models = following(store)
    publish(store, "v1")
    publish(store, "v2", bias=-2.0)
    deploy(store, "v1")
    models.refresh()
    flipped(store, "v2")
    for version in ("v2", "v404"):
        deploy(store, version)
        models.refresh()
        assert versions(models) == ["v1"]
