"""Training on a small lake with the real learners, ONNX Runtime, MLflow and files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.mlflow_registry import MlflowRegistry
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.contracts.models import Deployment, Role
from flywheel.kernel.gates import Demands
from services.trainer import training
from services.trainer.learners import fit_baseline
from services.trainer.training import Trainer
from services.trainer.training_set import IncompleteHistory
from tests.integration.services.trainer.conftest import SmallWorld
from usecases.fraud import usecase

# MLflow uses deprecated parts of SQLAlchemy and of its own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

Retrieve = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> MlflowRegistry:
    home = tmp_path_factory.mktemp("mlflow")
    return MlflowRegistry(f"sqlite:///{home}/mlflow.db", home / "artifacts")


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, small_world: SmallWorld, registry: MlflowRegistry, retrieve: Retrieve
) -> Trainer:
    """A trainer that has deployed its first model."""
    store = FileModelStore(tmp_path_factory.mktemp("models"))
    trainer = Trainer(usecase, small_world.lake, store, registry)
    outcome = trainer.train(small_world.message(), retrieve)
    assert outcome.finished.deployed, outcome.finished.gates
    return trainer


def test_the_first_model_is_deployed_beside_the_baseline(trained: Trainer, registry: MlflowRegistry) -> None:
    current = trained.store.current("fraud")
    assert current is not None
    assert current.sequence == 1
    assert current.champion.endswith("-lightgbm")
    assert current.challenger is not None
    assert current.challenger.endswith("-logistic")
    assert current.challenger_share == usecase.experiment.challenger_share
    assert current.salt
    assert registry.assigned("fraud", Role.CHAMPION) == current.champion
    assert registry.assigned("fraud", Role.CHALLENGER) == current.challenger


def test_a_published_model_answers_as_its_manifest_says(trained: Trainer) -> None:
    current = trained.store.current("fraud")
    assert current is not None
    for version in (current.champion, current.challenger):
        manifest, model = trained.store.load("fraud", str(version))
        rows = np.array(manifest.golden_inputs, np.float32)
        np.testing.assert_allclose(OnnxScorer(model).score(rows), manifest.golden_scores, atol=1e-6)
        assert manifest.feature_names == usecase.feature_names
        assert set(manifest.reference) == set(usecase.feature_names)
        assert len(set(manifest.golden_scores)) > 1


def test_the_registry_holds_the_run_and_a_model_that_loads(trained: Trainer) -> None:
    current = trained.store.current("fraud")
    assert current is not None
    manifest, model = trained.store.load("fraud", current.champion)
    run = mlflow.MlflowClient().get_run(manifest.mlflow_run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["average_precision"] == pytest.approx(manifest.metrics["average_precision"])
    assert int(run.data.params["validate_rows"]) > 0
    registered = mlflow.onnx.load_model("models:/fraud@champion")
    assert registered.SerializeToString() == model


def test_a_request_that_was_answered_is_not_trained_again(
    trained: Trainer, small_world: SmallWorld, retrieve: Retrieve
) -> None:
    before = trained.store.deployments("fraud")
    again = trained.train(small_world.message(), retrieve)
    assert again.finished.deployed
    assert again.finished.version == before[0].champion
    assert trained.store.deployments("fraud") == before


def reigning(trained: Trainer, store: FileModelStore, version: str) -> Deployment:
    """Makes a version of the first run the champion of another store."""
    manifest, model = trained.store.load("fraud", version)
    store.publish(manifest, model)
    first = trained.store.deployments("fraud")[0]
    deployment = first.model_copy(update={"champion": version, "challenger": None, "reason": "by hand"})
    store.deploy(deployment)
    return deployment


def test_the_former_champion_becomes_the_challenger(
    trained: Trainer, registry: MlflowRegistry, small_world: SmallWorld, retrieve: Retrieve, tmp_path: Path
) -> None:
    store = FileModelStore(tmp_path)
    weak = str(trained.store.deployments("fraud")[0].challenger)
    before = reigning(trained, store, weak)
    finished = dataclasses.replace(trained, store=store).train(small_world.message("second"), retrieve).finished
    assert finished.deployed, finished.gates
    after = store.current("fraud")
    assert after is not None
    assert (after.sequence, after.champion, after.challenger) == (2, finished.version, weak)
    assert after.salt != before.salt
    assert registry.assigned("fraud", Role.CHALLENGER) == weak


def test_a_candidate_behind_the_champion_is_not_deployed(
    trained: Trainer,
    small_world: SmallWorld,
    retrieve: Retrieve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = FileModelStore(tmp_path)
    before = reigning(trained, store, trained.store.deployments("fraud")[0].champion)
    monkeypatch.setattr(training, "fit_trees", fit_baseline)
    finished = dataclasses.replace(trained, store=store).train(small_world.message("worse"), retrieve).finished
    assert not finished.deployed
    assert {gate.name for gate in finished.gates if not gate.passed} >= {"beats_baseline", "not_behind_champion"}
    assert store.current("fraud") == before


def test_a_candidate_that_fails_a_gate_is_recorded_and_not_deployed(
    small_world: SmallWorld, registry: MlflowRegistry, retrieve: Retrieve, tmp_path: Path
) -> None:
    store = FileModelStore(tmp_path)
    strict = Trainer(usecase, small_world.lake, store, registry, Demands(validation_positives=10**6))
    finished = strict.train(small_world.message("strict"), retrieve).finished
    assert not finished.deployed
    assert [gate.name for gate in finished.gates if not gate.passed] == ["enough_positives"]
    assert store.current("fraud") is None
    assert finished.version is not None
    assert not all(gate.passed for gate in store.load("fraud", finished.version)[0].gates)


def test_a_champion_that_cannot_be_judged_keeps_its_place(
    trained: Trainer, small_world: SmallWorld, retrieve: Retrieve, tmp_path: Path
) -> None:
    store = FileModelStore(tmp_path)
    champion = reigning(trained, store, trained.store.deployments("fraud")[0].champion)
    (tmp_path / "fraud" / champion.champion / "model.onnx").write_bytes(b"damaged")
    finished = dataclasses.replace(trained, store=store).train(small_world.message("blind"), retrieve).finished
    assert not finished.deployed
    assert [gate.name for gate in finished.gates if not gate.passed] == ["not_behind_champion"]
    assert store.current("fraud") == champion


def test_features_that_are_missing_stop_the_run(
    small_world: SmallWorld, registry: MlflowRegistry, retrieve: Retrieve, tmp_path: Path
) -> None:
    def with_gaps(requests: pd.DataFrame) -> pd.DataFrame:
        frame = retrieve(requests)
        frame.loc[frame.index[::10], "card_transaction_count_1h"] = np.nan
        return frame

    trainer = Trainer(usecase, small_world.lake, FileModelStore(tmp_path), registry)
    with pytest.raises(IncompleteHistory, match="no feature history"):
        trainer.train(small_world.message("gaps"), with_gaps)
    with pytest.raises(IncompleteHistory, match="came back as"):
        trainer.train(small_world.message("lost"), lambda requests: retrieve(requests).iloc[1:])
