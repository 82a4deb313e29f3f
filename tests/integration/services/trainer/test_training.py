"""Training on a small lake with the real learners, ONNX Runtime, MLflow and files."""

from __future__ import annotations

import dataclasses
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pytest

from flywheel.adapters.feast_repo import training_table
from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.history_layout import history_sources
from flywheel.adapters.mlflow_registry import MlflowRegistry
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.adapters.point_in_time import JoinLimits, join_point_in_time
from flywheel.contracts.models import Deployment, Role
from flywheel.contracts.parity import MismatchExample
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel.gates import Demands, all_passed
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.rollout import Rollout
from flywheel.kernel.tally import Tally, report
from services.trainer import training
from services.trainer.appraisal import Appraised, appraise
from services.trainer.labels import Known, matured_requests
from services.trainer.learners import Fitted, Sample, fit_baseline
from services.trainer.publication import next_deployment
from services.trainer.training import Trainer
from services.trainer.training_set import IncompleteHistory, read_training_set
from tests.integration.services.trainer.conftest import ARRIVED, DAYS, SNAPSHOT, SmallWorld
from usecases.fraud import usecase

# MLflow uses deprecated parts of SQLAlchemy and of its own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> MlflowRegistry:
    home = tmp_path_factory.mktemp("mlflow")
    return MlflowRegistry(f"sqlite:///{home}/mlflow.db", home / "artifacts")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, small_world: SmallWorld, registry: MlflowRegistry) -> Trainer:
    """A trainer that has deployed its first model."""
    store = FileModelStore(tmp_path_factory.mktemp("models"))
    trainer = Trainer(usecase, small_world.lake, store, registry)
    outcome = trainer.train(small_world.message(), small_world.retrieve)
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
        assert list(manifest.importance) == list(usecase.feature_names)
        assert sum(manifest.importance.values()) == pytest.approx(1)
        assert all_passed(manifest.gates)


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


def test_a_request_that_was_answered_is_not_trained_again(trained: Trainer, small_world: SmallWorld) -> None:
    before = trained.store.deployments("fraud")
    again = trained.train(small_world.message(), small_world.retrieve)
    assert again.finished.deployed
    assert again.finished.version == before[0].champion
    assert trained.store.deployments("fraud") == before


def test_roles_that_were_not_assigned_are_when_the_request_comes_again(
    trained: Trainer, registry: MlflowRegistry, small_world: SmallWorld, tmp_path: Path
) -> None:
    first = trained.store.deployments("fraud")[0]
    store = FileModelStore(tmp_path)
    for version in (first.champion, str(first.challenger)):
        store.publish(*trained.store.load("fraud", version))
    store.deploy(first)
    registry.assign("fraud", Role.CHAMPION, first.challenger)
    registry.assign("fraud", Role.CHALLENGER, None)
    trainer = dataclasses.replace(trained, store=store)
    for _ in range(2):
        assert trainer.train(small_world.message(), small_world.retrieve).finished.version == first.champion
        assert registry.assigned("fraud", Role.CHAMPION) == first.champion
        assert registry.assigned("fraud", Role.CHALLENGER) == first.challenger


def test_a_request_that_another_process_answers_meanwhile_is_not_deployed_twice(
    trained: Trainer, small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileModelStore(tmp_path)
    first = trained.store.deployments("fraud")[0]

    def answered_meanwhile(*arguments: Any, **names: Any) -> Deployment:
        for version in (first.champion, str(first.challenger)):
            store.publish(*trained.store.load("fraud", version))
        store.deploy(first)
        return next_deployment(*arguments, **names)

    monkeypatch.setattr(training, "next_deployment", answered_meanwhile)
    finished = dataclasses.replace(trained, store=store).train(small_world.message(), small_world.retrieve).finished
    assert finished.version == first.champion
    assert store.deployments("fraud") == [first]


def test_a_baseline_that_is_not_sound_is_no_challenger(
    trained: Trainer, registry: MlflowRegistry, small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def appraised(fitted: Fitted, validate: Sample) -> Appraised:
        found = appraise(fitted, validate)
        return dataclasses.replace(found, parity=1.0) if fitted.algorithm == "logistic" else found

    monkeypatch.setattr(training, "appraise", appraised)
    store = FileModelStore(tmp_path)
    finished = (
        dataclasses.replace(trained, store=store).train(small_world.message("alone"), small_world.retrieve).finished
    )
    assert finished.deployed, finished.gates
    current = store.current("fraud")
    assert current is not None
    assert (current.challenger, current.challenger_share) == (None, 0.0)
    assert registry.assigned("fraud", Role.CHALLENGER) is None


def reigning(trained: Trainer, store: FileModelStore, version: str) -> Deployment:
    """Makes a version of the first run the champion of another store."""
    manifest, model = trained.store.load("fraud", version)
    store.publish(manifest, model)
    first = trained.store.deployments("fraud")[0]
    changes = {"champion": version, "challenger": None, "challenger_share": 0.0, "reason": "by hand"}
    deployment = first.model_copy(update=changes)
    store.deploy(deployment)
    return deployment


def test_the_former_champion_becomes_the_challenger(
    trained: Trainer, registry: MlflowRegistry, small_world: SmallWorld, tmp_path: Path
) -> None:
    store = FileModelStore(tmp_path)
    weak = str(trained.store.deployments("fraud")[0].challenger)
    before = reigning(trained, store, weak)
    finished = (
        dataclasses.replace(trained, store=store).train(small_world.message("second"), small_world.retrieve).finished
    )
    assert finished.deployed, finished.gates
    after = store.current("fraud")
    assert after is not None
    assert (after.sequence, after.champion, after.challenger) == (2, finished.version, weak)
    assert after.salt != before.salt
    assert registry.assigned("fraud", Role.CHALLENGER) == weak


def fit_to_chance(train: Sample, calibrate: Sample) -> Fitted:
    """A model that has learnt nothing true."""
    rng = np.random.default_rng(1)
    return fit_baseline(*(Sample(part.rows, rng.permutation(part.labels)) for part in (train, calibrate)))


def test_a_candidate_like_the_champion_is_not_behind_it(
    trained: Trainer, small_world: SmallWorld, tmp_path: Path
) -> None:
    store = FileModelStore(tmp_path)
    reigning(trained, store, trained.store.deployments("fraud")[0].champion)
    message = small_world.message("nearly the same", days=DAYS - 1)
    finished = dataclasses.replace(trained, store=store).train(message, small_world.retrieve).finished
    (gate,) = (gate for gate in finished.gates if gate.name == "not_behind_champion")
    assert gate.passed, gate
    assert "95% bound" in gate.demand


def test_where_a_rollout_is_declared_the_candidate_begins_as_a_canary(
    trained: Trainer, small_world: SmallWorld, tmp_path: Path
) -> None:
    store = FileModelStore(tmp_path)
    before = reigning(trained, store, trained.store.deployments("fraud")[0].champion)
    careful = dataclasses.replace(usecase, rollout=Rollout(steps=(0.05, 1.0)))
    trainer = dataclasses.replace(trained, usecase=careful, store=store)
    message = small_world.message("carefully", days=DAYS - 1)
    finished = trainer.train(message, small_world.retrieve).finished
    current = store.current("fraud")
    assert current is not None
    assert (current.champion, current.challenger) == (before.champion, before.challenger)
    assert (current.canary, current.canary_share) == (finished.version, 0.05)
    assert trained.registry.assigned("fraud", Role.CANARY) == finished.version
    again = trainer.train(message, small_world.retrieve).finished
    assert again.version == finished.version
    assert store.current("fraud") == current


def test_a_candidate_behind_the_champion_is_not_deployed(
    trained: Trainer,
    small_world: SmallWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = FileModelStore(tmp_path)
    before = reigning(trained, store, trained.store.deployments("fraud")[0].champion)
    monkeypatch.setattr(training, "fit_trees", fit_to_chance)
    finished = (
        dataclasses.replace(trained, store=store).train(small_world.message("worse"), small_world.retrieve).finished
    )
    assert not finished.deployed
    assert {gate.name for gate in finished.gates if not gate.passed} >= {"beats_baseline", "not_behind_champion"}
    assert store.current("fraud") == before


def test_a_candidate_that_fails_a_gate_is_recorded_and_not_deployed(
    small_world: SmallWorld, registry: MlflowRegistry, tmp_path: Path
) -> None:
    store = FileModelStore(tmp_path)
    strict = Trainer(usecase, small_world.lake, store, registry, Demands(validation_positives=10**6))
    finished = strict.train(small_world.message("strict"), small_world.retrieve).finished
    assert not finished.deployed
    assert [gate.name for gate in finished.gates if not gate.passed] == ["enough_positives"]
    assert store.current("fraud") is None
    assert finished.version is not None
    assert not all(gate.passed for gate in store.load("fraud", finished.version)[0].gates)


def test_features_served_otherwise_than_recomputed_keep_a_candidate_from_deciding(
    small_world: SmallWorld, registry: MlflowRegistry, tmp_path: Path
) -> None:
    store = FileModelStore(tmp_path)
    now = datetime.now(UTC)
    example = MismatchExample(event_id="e1", decided_at=now, online=2.0, offline=1.0)
    tally = Tally(decisions=500, values=10_000)
    for _ in range(50):
        tally.compare("card_transaction_count_7d", example, stale=False)
    message = small_world.message("skewed").model_copy(update={"parity": report("fraud", tally, [now])})
    finished = Trainer(usecase, small_world.lake, store, registry).train(message, small_world.retrieve).finished
    (failed,) = (gate for gate in finished.gates if not gate.passed)
    assert (failed.name, failed.value) == ("feature_parity", 50 / 10_050)
    assert "most often card_transaction_count_7d" in failed.demand
    assert store.current("fraud") is None


def test_a_champion_that_cannot_be_judged_keeps_its_place(
    trained: Trainer, small_world: SmallWorld, tmp_path: Path
) -> None:
    store = FileModelStore(tmp_path)
    champion = reigning(trained, store, trained.store.deployments("fraud")[0].champion)
    (tmp_path / "fraud" / champion.champion / "model.onnx").write_bytes(b"damaged")
    finished = (
        dataclasses.replace(trained, store=store).train(small_world.message("blind"), small_world.retrieve).finished
    )
    assert not finished.deployed
    assert [gate.name for gate in finished.gates if not gate.passed] == ["not_behind_champion"]
    assert store.current("fraud") == champion


def test_features_that_are_missing_stop_the_run(
    small_world: SmallWorld, registry: MlflowRegistry, tmp_path: Path
) -> None:
    def with_gaps(requests: pa.Table) -> pa.Table:
        frame = small_world.retrieve(requests).to_pandas()
        frame.loc[frame.index[-1], [name for name in frame if str(name).startswith("card_trans")]] = np.nan
        frame.loc[frame.index[-1], [name for name in frame if str(name).startswith("card_charge")]] = np.nan
        return pa.Table.from_pandas(frame, preserve_index=False)

    trainer = Trainer(usecase, small_world.lake, FileModelStore(tmp_path), registry)
    with pytest.raises(IncompleteHistory, match="without features by card"):
        trainer.train(small_world.message("gaps"), with_gaps)
    with pytest.raises(IncompleteHistory, match="came back as"):
        trainer.train(small_world.message("lost"), lambda requests: small_world.retrieve(requests)[1:])


def test_events_that_came_after_the_history_are_left_out_if_they_are_few(
    small_world: SmallWorld, tmp_path: Path
) -> None:
    late = small_world.frames["transaction"].iloc[1_000:1_100]
    known = len(matured_requests(small_world.lake, usecase, Known.by(small_world.message()), small_world.snapshot))
    lake = tmp_path / "lake"
    shutil.copytree(small_world.lake, lake)
    few = late.assign(event_id=[f"late-{number}" for number in range(len(late))])
    small_world.archive("transaction", few, batch_id=20, ingest_time=ARRIVED, lake=lake)
    examples = read_training_set(lake, usecase, small_world.message(), small_world.retrieve)
    assert len(examples.labels) == known
    for batch_id in range(21, 40):
        more = late.assign(event_id=[f"later-{batch_id}-{number}" for number in range(len(late))])
        small_world.archive("transaction", more, batch_id=batch_id, ingest_time=ARRIVED, lake=lake)
    with pytest.raises(IncompleteHistory, match="no feature history"):
        read_training_set(lake, usecase, small_world.message(), small_world.retrieve)


def test_a_snapshot_that_was_deleted_stops_the_run(small_world: SmallWorld) -> None:
    gone = small_world.message().model_copy(update={"snapshot_id": "gone"})
    with pytest.raises(IncompleteHistory, match="not there any more"):
        read_training_set(small_world.lake, usecase, gone, small_world.retrieve)


def test_feast_retrieves_every_row_with_the_features_it_had(small_world: SmallWorld) -> None:
    settings = PlatformSettings(data_dir=small_world.data)
    plan = compile_plan(usecase)

    def by_feast(requests: pa.Table) -> pa.Table:
        return training_table(settings, plan, requests, SNAPSHOT)

    joined = read_training_set(small_world.lake, usecase, small_world.message(), small_world.retrieve)
    retrieved = read_training_set(small_world.lake, usecase, small_world.message(), by_feast)
    np.testing.assert_array_equal(retrieved.times_us, joined.times_us)
    np.testing.assert_array_equal(retrieved.labels, joined.labels)
    same = (retrieved.rows == joined.rows).all(axis=1)
    # Two payments of one card or at one terminal in the same second have one place in Feast's history.
    assert same.mean() > 0.999


def test_our_join_retrieves_every_row_with_the_very_features_it_had(small_world: SmallWorld, tmp_path: Path) -> None:
    sources = history_sources(PlatformSettings(data_dir=small_world.data), compile_plan(usecase), SNAPSHOT)

    def by_join(requests: pa.Table) -> pa.Table:
        return join_point_in_time(requests, sources, JoinLimits(128, tmp_path / "spill"))

    looked_up = read_training_set(small_world.lake, usecase, small_world.message(), small_world.retrieve)
    joined = read_training_set(small_world.lake, usecase, small_world.message(), by_join)
    np.testing.assert_array_equal(joined.times_us, looked_up.times_us)
    np.testing.assert_array_equal(joined.labels, looked_up.labels)
    np.testing.assert_array_equal(joined.rows, looked_up.rows)
