"""The newest deployment is served with its roles, and what was stopped stays out."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from flywheel.adapters.memory_model_store import MemoryModelStore
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.kernel.attribution import Attribution
from flywheel.kernel.ports import Scorer
from flywheel.kernel.ranking import Ranking
from services.serving.models import line_up
from services.serving.models.line_up import Models
from tests.line_up_scene import flipped, following, versions
from tests.serving_parts import USECASE, deploy, publish


def test_nothing_deployed_is_an_empty_lineup(store: MemoryModelStore) -> None:
    models = following(store)
    models.refresh()
    assert versions(models) == []


def test_the_newest_deployment_is_served_with_its_split(store: MemoryModelStore) -> None:
    for version in ("v1", "v2"):
        publish(store, version)
    models = following(store)
    deploy(store, "v1")
    models.refresh()
    assert versions(models) == ["v1"]
    deploy(store, "v2", challenger="v1", share=0.3)
    models.refresh()
    lineup = models.lineup()
    assert versions(models) == ["v2", "v1"]
    assert (lineup.challenger_share, lineup.salt, lineup.sequence) == (0.3, "salt", 2)


def test_a_shadow_of_a_use_case_that_ranks_is_not_run_and_readiness_says_what_to_do(store: MemoryModelStore) -> None:
    ranks = replace(USECASE, policy=Ranking(candidate="terminal_id", keep=2))
    models = Models(ranks, store, OnnxScorer, on_swap=lambda: None)
    for version in ("v1", "v2"):
        publish(store, version)
    deploy(store, "v1", shadow="v2")
    models.refresh()
    assert versions(models) == ["v1"]
    assert models.detail == (
        "model v1; degraded: without shadow v2; fraud ranks, which no shadow does beside: "
        "compare it as a challenger with a share"
    )
    deploy(store, "v1")
    models.refresh()
    assert models.detail == "model v1"


def test_a_rollback_is_one_more_deployment(store: MemoryModelStore) -> None:
    models = following(store)
    for version in ("v1", "v2"):
        publish(store, version)
        deploy(store, version)
        models.refresh()
    deploy(store, "v1")
    models.refresh()
    assert versions(models) == ["v1"]


def test_the_first_model_is_loaded_at_once_and_others_with_rests_that_leave_the_core_to_answers(
    store: MemoryModelStore,
) -> None:
    rested_beside: list[list[str]] = []
    models = Models(
        USECASE,
        store,
        OnnxScorer,
        on_swap=lambda: None,
        paced=lambda: lambda: rested_beside.append(versions(models)),
    )
    for version in ("v1", "v2"):
        publish(store, version)
    deploy(store, "v1")
    models.refresh()
    assert (versions(models), rested_beside) == (["v1"], [])
    deploy(store, "v2")
    models.refresh()
    assert (versions(models), rested_beside) == (["v2"], [["v1"]] * 3)


def test_a_rest_ends_when_the_process_is_to_end(store: MemoryModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_up, "SHARE", 1e-9)
    scored = threading.Event()

    def make(model: bytes) -> Scorer:
        scored.set()
        return OnnxScorer(model)

    models = following(store, make)
    for version in ("v1", "v2"):
        publish(store, version)
    deploy(store, "v1")
    models.refresh()
    deploy(store, "v2")
    scored.clear()
    loading = threading.Thread(target=models.refresh, daemon=True)
    loading.start()
    assert scored.wait(10)
    loading.join(0.2)
    assert loading.is_alive()
    assert versions(models) == ["v1"]
    models.hurry()
    loading.join(10)
    assert versions(models) == ["v2"]


def test_a_model_that_cannot_be_explained_for_whatever_reason_answers(store: MemoryModelStore) -> None:
    class Broken(OnnxScorer):
        def explain(self, row: NDArray[np.float32]) -> Attribution:
            raise KeyError(f"nodes_modes of {row.shape}")

    models = following(store, Broken)
    publish(store, "v1")
    deploy(store, "v1")
    models.refresh()
    assert (versions(models), models.detail) == (["v1"], "model v1")


def test_what_all_explanations_share_is_ready_before_the_model_answers(store: MemoryModelStore) -> None:
    explained: list[bool] = []

    class Told(OnnxScorer):
        def explain(self, row: NDArray[np.float32]) -> Attribution:
            explained.append(models.lineup().champion is not None)
            return super().explain(row)

    models = following(store, Told)
    publish(store, "v1")
    deploy(store, "v1")
    models.refresh()
    assert (versions(models), explained) == (["v1"], [False])


def test_only_what_is_loaded_now_has_a_series(store: MemoryModelStore) -> None:
    models = following(store)
    for version in ("shown-1", "shown-2", "shown-3"):
        publish(store, version)
        deploy(store, version)
        models.refresh()
    deploy(store, "shown-3", challenger="shown-1", share=0.3)
    models.refresh()
    assert series() == {("champion", "shown-3"): 1, ("challenger", "shown-1"): 1}


def series() -> dict[tuple[str, str], float]:
    """Of this test alone: others leave line-ups with other versions."""
    samples = [s for m in REGISTRY.collect() for s in m.samples if s.name == "flywheel_serving_model_loaded"]
    return {
        (s.labels["role"], s.labels["version"]): s.value for s in samples if s.labels["version"].startswith("shown-")
    }


def test_the_old_scorer_is_kept_when_only_the_split_changes(store: MemoryModelStore) -> None:
    models = following(store)
    publish(store, "v1")
    publish(store, "v2")
    deploy(store, "v1")
    models.refresh()
    before = models.lineup().champion
    deploy(store, "v1", challenger="v2", share=0.1)
    models.refresh()
    assert models.lineup().champion is before
    assert before is not None


def test_canary_and_shadow_are_loaded_beside_the_champion(store: MemoryModelStore) -> None:
    models = following(store)
    for version in ("v1", "v2", "v3"):
        publish(store, version)
    deploy(store, "v1", canary="v2", canary_share=0.25, shadow="v3")
    models.refresh()
    lineup = models.lineup()
    assert [(str(role), model.version) for role, model in lineup.models()] == [
        ("champion", "v1"),
        ("canary", "v2"),
        ("shadow", "v3"),
    ]
    assert lineup.canary_share == 0.25


def test_a_broken_shadow_is_done_without_and_a_broken_canary_holds_the_deployment_back(
    store: MemoryModelStore,
) -> None:
    models = following(store)
    for version in ("v1", "v2", "v3"):
        publish(store, version)
    flipped(store, "v3")
    deploy(store, "v2", shadow="v3")
    models.refresh()
    assert versions(models) == ["v2"]
    deploy(store, "v1", canary="v3", canary_share=0.1)
    models.refresh()
    assert versions(models) == ["v2"]
    assert "deployment 2 is held back; v3: CorruptModel" in models.detail


def test_a_stopped_canary_stays_out_through_its_next_step(store: MemoryModelStore) -> None:
    models = following(store)
    for version in ("v1", "v2"):
        publish(store, version)
    deploy(store, "v1", canary="v2", canary_share=0.1)
    models.refresh()
    models.stop("v1", "champions stay")
    models.stop("v2", "it failed 5 times")
    assert versions(models) == ["v1"]
    assert "stopped here: v2: it failed 5 times" in models.detail
    deploy(store, "v1", canary="v2", canary_share=0.5)
    models.refresh()
    assert versions(models) == ["v1"]
    deploy(store, "v2")
    models.refresh()
    assert versions(models) == ["v2"]
    assert "stopped" not in models.detail


def test_a_canary_that_is_stopped_while_it_is_replaced_does_not_come_back(store: MemoryModelStore) -> None:
    models = following(store)
    for version in ("v1", "v2", "v3"):
        publish(store, version)
    deploy(store, "v1", canary="v2", canary_share=0.5)
    models.refresh()
    deploy(store, "v3", challenger="v1", share=0.2)
    swapping = models._swapping

    class Overtaken:
        def __enter__(self) -> bool:
            models._swapping = swapping
            models.refresh()
            return swapping.__enter__()

        def __exit__(self, *raised: object) -> None:
            swapping.release()

    models._swapping = Overtaken()  # type: ignore[assignment]
    models.stop("v2", "fails")
    models.refresh()
    assert versions(models) == ["v3", "v1"]
    assert models.detail == "model v3"


def test_a_line_up_that_was_replaced_leaves_no_cyclic_garbage_behind(store: MemoryModelStore) -> None:
    class Cyclic(OnnxScorer):
        def __init__(self, model: bytes) -> None:
            super().__init__(model)
            self.itself = self

    made: list[weakref.ref[Cyclic]] = []

    def make(model: bytes) -> Scorer:
        scorer = Cyclic(model)
        made.append(weakref.ref(scorer))
        return scorer

    publish(store, "v1", golden_scores=(9.0,) * 5)
    publish(store, "v2")
    deploy(store, "v2")
    deploy(store, "v1")
    gc.disable()
    try:
        Models(USECASE, store, make).refresh()
        assert [scorer() is None for scorer in made] == [True, False]
    finally:
        gc.enable()
        gc.unfreeze()
