"""The deployment log is followed; whatever is wrong with a new model, the old one goes on answering."""

from __future__ import annotations

import asyncio
import gc
import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from prometheus_client import REGISTRY

from flywheel.adapters.last_good_models import LastGoodModels
from flywheel.adapters.memory_model_store import MemoryModelStore
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.contracts.models import Component, Deployment, ModelManifest
from flywheel.kernel.model_integrity import digest_of
from flywheel.kernel.ports import CorruptModel, Scorer
from flywheel.kernel.ranking import Ranking
from services.serving.models.line_up import Models
from services.serving.models.loading import MakeScorer
from tests.serving_parts import USECASE, deploy, manifest_of, publish, tiny_model


@pytest.fixture
def store() -> MemoryModelStore:
    return MemoryModelStore()


def following(store: MemoryModelStore, make_scorer: MakeScorer = OnnxScorer) -> Models:
    return Models(USECASE, store, make_scorer, on_swap=lambda: None)


def versions(models: Models) -> list[str]:
    return [model.version for _, model in models.lineup().models()]


def flipped(store: MemoryModelStore, version: str) -> None:
    manifest, model = store.models["fraud", version]
    store.models["fraud", version] = (manifest, model[:-1] + bytes([model[-1] ^ 1]))


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


def test_at_the_start_an_earlier_model_is_better_than_none(store: MemoryModelStore) -> None:
    publish(store, "v1")
    publish(store, "v2", bias=-2.0)
    deploy(store, "v1")
    deploy(store, "v2")
    flipped(store, "v2")
    models = following(store)
    models.refresh()
    models.refresh()
    assert versions(models) == ["v1"]
    assert models.lineup().sequence == 1


def test_at_the_start_a_champion_goes_on_without_a_broken_challenger(store: MemoryModelStore) -> None:
    publish(store, "v1")
    publish(store, "v2", bias=-2.0)
    deploy(store, "v1", challenger="v2", share=0.5)
    flipped(store, "v2")
    models = following(store)
    models.refresh()
    assert versions(models) == ["v1"]
    assert models.lineup().pick("c1").arm == "champion"


def test_a_store_that_cannot_be_read_changes_nothing_and_is_read_again() -> None:
    class Unreadable(MemoryModelStore):
        broken = False

        def current(self, usecase: str) -> Deployment | None:
            if self.broken:
                raise OSError("input/output error")
            return super().current(usecase)

    unreadable = Unreadable()
    models = following(unreadable)
    publish(unreadable, "v1")
    deploy(unreadable, "v1")
    models.refresh()
    publish(unreadable, "v2")
    deploy(unreadable, "v2")
    unreadable.broken = True
    models.refresh()
    assert versions(models) == ["v1"]
    unreadable.broken = False
    models.refresh()
    assert versions(models) == ["v2"]


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


@pytest.mark.parametrize("error", [OSError("input/output error"), KeyError("not yet"), CorruptModel("half")])
@pytest.mark.parametrize(
    "roles", [{}, {"challenger": "v1", "share": 0.1}, {"canary": "v3", "canary_share": 0.2, "shadow": "v1"}]
)
def test_what_cannot_be_had_for_a_moment_is_tried_again_until_it_is_there(
    store: MemoryModelStore, error: Exception, roles: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = following(store)
    for version in ("v1", "v2", "v3"):
        publish(store, version)
    deploy(store, "v1")
    models.refresh()
    deploy(store, "v2", **roles)
    away = Away(store, {"v2": 4, "v3": 3}, error)
    monkeypatch.setattr(store, "load", away)
    for _ in range(8):
        models.refresh()
        assert versions(models) == ["v1"]
    assert "deployment 2 is held back; v2: " + type(error).__name__ in models.detail
    assert away.tries["v2"] == 3
    for _ in range(100):
        models.refresh()
    assert versions(models) == ["v2", *(version for version in roles.values() if isinstance(version, str))]
    assert models.detail == "model v2"


@pytest.mark.parametrize("role", [{"canary": "v2", "canary_share": 0.2}, {"shadow": "v2"}])
def test_at_the_start_a_role_that_is_missing_is_named_and_comes_later(
    store: MemoryModelStore, role: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = following(store)
    for version in ("v1", "v2"):
        publish(store, version)
    deploy(store, "v1", **role)
    monkeypatch.setattr(store, "load", Away(store, {"v2": 2}, OSError("input/output error")))
    models.refresh()
    assert versions(models) == ["v1"]
    assert f"degraded: without {next(iter(role))} v2; v2: OSError" in models.detail
    for _ in range(10):
        models.refresh()
    assert versions(models) == ["v1", "v2"]
    assert models.detail == "model v1"


async def test_the_follower_outlives_whatever_a_look_at_the_log_raises(
    store: MemoryModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = following(store)
    publish(store, "v1")
    deploy(store, "v1")
    real = store.current
    raised: list[str] = []

    def current(usecase: str) -> Deployment | None:
        if len(raised) < 3:
            raised.append(usecase)
            raise RuntimeError("nobody foresaw it")
        return real(usecase)

    monkeypatch.setattr(store, "current", current)
    watching = asyncio.create_task(models.watch(0.001))
    async with asyncio.timeout(10):
        while versions(models) != ["v1"]:
            assert not watching.done()
            await asyncio.sleep(0.001)
    watching.cancel()


def test_a_copy_that_is_gone_when_the_store_is_back_ends_nothing(store: MemoryModelStore, tmp_path: Path) -> None:
    publish(store, "v1")
    deploy(store, "v1")
    kept = LastGoodModels(tmp_path)
    Models(USECASE, store, OnnxScorer, last_good=kept, on_swap=lambda: None).refresh()
    model = store.models.pop(("fraud", "v1"))
    models = Models(USECASE, store, OnnxScorer, last_good=kept, on_swap=lambda: None)
    models.refresh()
    store.models["fraud", "v1"] = model
    shutil.rmtree(tmp_path / "fraud" / "v1")
    models.refresh()
    assert versions(models) == ["v1"]
    assert "from the local copy" in models.detail


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


class Away:
    """The store's `load`, where each version is away for so many tries."""

    def __init__(self, store: MemoryModelStore, tries: dict[str, int], error: Exception) -> None:
        self._load = store.load
        self._left, self._error = tries, error
        self.tries = dict.fromkeys(tries, 0)

    def __call__(self, usecase: str, version: str) -> tuple[ModelManifest, bytes]:
        if version in self.tries:
            self.tries[version] += 1
        if self._left.get(version, 0) > 0:
            self._left[version] -= 1
            raise self._error
        return self._load(usecase, version)


def test_a_bundle_runs_its_chain_and_has_its_parts_by_name(store: MemoryModelStore) -> None:
    ranker, halved, other = tiny_model(), correction(0.5), correction(0.1)
    parts = {"calibrator": halved, "retrieval": other}
    attached = tuple(
        Component(name=name, digest=digest_of(content), chained=name == "calibrator") for name, content in parts.items()
    )
    whole = manifest_of("v1", ranker)
    golden = tuple(0.5 * score for score in whole.golden_scores)
    store.publish(whole.model_copy(update={"attached": attached, "golden_scores": golden}), ranker, parts)
    deploy(store, "v1")
    models = following(store)
    models.refresh()
    champion = models.lineup().champion
    assert champion is not None
    assert set(champion.components) == {"model", "calibrator", "retrieval"}
    rows = np.full((3, len(USECASE.feature_names)), 5.0, np.float32)
    plain = champion.components["model"].score(rows)
    assert champion.scorer.score(rows).tolist() == pytest.approx((0.5 * plain).tolist(), rel=1e-6)


def test_a_part_of_a_bundle_that_was_damaged_is_refused(store: MemoryModelStore) -> None:
    ranker, part = tiny_model(), correction(0.5)
    attached = (Component(name="calibrator", digest=digest_of(part), chained=True),)
    store.publish(manifest_of("v2", ranker, attached=attached), ranker, {"calibrator": part})
    store.attached["fraud", "v2"]["calibrator"] = part[:-1]
    publish(store, "v1")
    deploy(store, "v1")
    deploy(store, "v2")
    models = following(store)
    models.refresh()
    assert versions(models) == ["v1"]


def correction(factor: float) -> bytes:
    """A model of one column: that many times what it is given."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["score", "factor"], ["corrected"])],
        "correction",
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        [helper.make_tensor_value_info("corrected", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(np.array([factor], np.float32), "factor")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(made.SerializeToString())
