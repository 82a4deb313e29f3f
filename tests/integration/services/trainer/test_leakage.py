"""Rows that know the future are found, whatever let them; honest rows pass."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.mlflow_registry import MlflowRegistry
from flywheel.contracts.training import HistoryBuilt
from flywheel.kernel.aggregation import count
from flywheel.kernel.features import Entity
from services.trainer.leakage import FutureLeaked, check_leakage
from services.trainer.training import Trainer
from services.trainer.training_set import TrainingSet, read_training_set
from tests.integration.services.trainer.conftest import ARRIVED, SmallWorld
from usecases.fraud import usecase
from usecases.fraud.events import Transaction

# MLflow uses deprecated parts of SQLAlchemy and of its own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def examples(small_world: SmallWorld) -> TrainingSet:
    return read_training_set(small_world.lake, usecase, known(small_world), small_world.retrieve)


def known(small_world: SmallWorld) -> HistoryBuilt:
    return small_world.message().model_copy(update={"as_known": True, "arrived_until": ARRIVED})


def planted(examples: TrainingSet, name: str, values: np.ndarray) -> TrainingSet:
    place = examples.requests.column_names.index(name)
    return replace(examples, requests=examples.requests.set_column(place, name, pa.array(values)))


def test_honest_rows_pass(small_world: SmallWorld, examples: TrainingSet) -> None:
    check = check_leakage(small_world.lake, usecase, known(small_world), examples)
    assert check.rows == 300
    assert check.values == 300 * len(usecase.windowed)
    assert check.gate.passed
    assert "of 300 sampled rows" in check.gate.demand


def test_a_feature_that_knows_the_label_is_found(small_world: SmallWorld, examples: TrainingSet) -> None:
    name = "card_chargeback_count_30d"
    honest = examples.requests[name].to_numpy()
    leaking = planted(examples, name, honest + examples.labels)
    with pytest.raises(FutureLeaked, match=rf"^{name} of \S+ is \d+, but \d+ was known when it happened at 2018-"):
        check_leakage(small_world.lake, usecase, known(small_world), leaking)


def test_a_join_that_is_one_row_late_is_found(small_world: SmallWorld, examples: TrainingSet) -> None:
    frame = examples.requests.to_pandas()
    name = "terminal_transaction_count_7d"
    late = frame.groupby("terminal_id")[name].shift(-1).fillna(frame[name])
    with pytest.raises(FutureLeaked, match=name):
        check_leakage(small_world.lake, usecase, known(small_world), planted(examples, name, late.to_numpy()))


def test_entities_of_several_fields_are_recomputed_too(small_world: SmallWorld, examples: TrainingSet) -> None:
    pair = Entity("pair", key=("card_id", "terminal_id"))
    (feature,) = count(Transaction).by(pair).over("89d")
    wider = replace(usecase, entities=(*usecase.entities, pair), features=(*usecase.features, feature))
    payments = small_world.frames["transaction"].sort_values("event_time", kind="stable")
    # The window is longer than this world, so every earlier payment counts, and those of the same moment do.
    so_far = payments.groupby(["card_id", "terminal_id"])["event_time"].rank(method="max").to_numpy()
    known_so_far = dict(zip(payments["event_id"], so_far, strict=True))
    ids = examples.requests["event_id"].to_pylist()
    values = np.array([known_so_far[event_id] for event_id in ids])
    honest = replace(examples, requests=examples.requests.append_column(feature.name, pa.array(values)))
    check = check_leakage(small_world.lake, wider, known(small_world), honest)
    assert check.values == 300 * len(wider.windowed)
    with pytest.raises(FutureLeaked, match=f"^{feature.name} of"):
        check_leakage(small_world.lake, wider, known(small_world), planted(honest, feature.name, values + 1))


def test_what_arrived_after_the_request_must_not_be_counted(
    small_world: SmallWorld, examples: TrainingSet, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(small_world.lake, lake)
    late = small_world.frames["transaction"].copy()
    late["event_id"] = "late-" + late["event_id"]
    small_world.archive("transaction", late, batch_id=50, ingest_time=ARRIVED + timedelta(seconds=1), lake=lake)
    check_leakage(lake, usecase, known(small_world), examples)
    unaware = known(small_world).model_copy(update={"as_known": False, "arrived_until": None})
    with pytest.raises(FutureLeaked, match="card_transaction_count"):
        check_leakage(lake, usecase, unaware, examples)


@pytest.mark.parametrize("first_loaded", ["transaction", "chargeback"])
def test_backfilled_events_are_known_by_their_own_time_in_whatever_order_they_were_loaded(
    small_world: SmallWorld, examples: TrainingSet, tmp_path: Path, first_loaded: str
) -> None:
    def check(lake: Path, *, backfilled: bool) -> None:
        for name, frame in small_world.frames.items():
            arrived = ARRIVED - timedelta(hours=2 if name == first_loaded else 1)
            small_world.archive(name, frame, batch_id=0, ingest_time=arrived, lake=lake, backfilled=backfilled)
        rows = read_training_set(lake, usecase, known(small_world), small_world.retrieve)
        assert len(rows.labels) == len(examples.labels)
        check_leakage(lake, usecase, known(small_world), rows)

    check(tmp_path / "backfilled", backfilled=True)
    if first_loaded == "transaction":
        # No live payment could know of chargebacks that came after all payments.
        with pytest.raises(FutureLeaked, match="chargeback_count"):
            check(tmp_path / "live", backfilled=False)


def test_what_was_backfilled_after_the_history_is_no_leak(
    small_world: SmallWorld, examples: TrainingSet, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(small_world.lake, lake)
    more = small_world.frames["transaction"].copy()
    more["event_id"] = "more-" + more["event_id"]
    moment = timedelta(microseconds=1)
    small_world.archive("transaction", more, batch_id=50, ingest_time=ARRIVED + moment, lake=lake, backfilled=True)
    check_leakage(lake, usecase, known(small_world), examples)
    later = known(small_world).model_copy(update={"arrived_until": ARRIVED + moment})
    with pytest.raises(FutureLeaked, match="transaction_count"):
        check_leakage(lake, usecase, later, examples)


def test_nothing_is_trained_on_rows_that_know_the_future(small_world: SmallWorld, tmp_path: Path) -> None:
    def leaking(requests: pa.Table) -> pa.Table:
        frame = small_world.retrieve(requests).to_pandas()
        frame["terminal_chargeback_count_7d"] += frame["label"]
        return pa.Table.from_pandas(frame, preserve_index=False)

    store = FileModelStore(tmp_path / "models")
    registry = MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")
    with pytest.raises(FutureLeaked, match="terminal_chargeback_count_7d"):
        Trainer(usecase, small_world.lake, store, registry).train(known(small_world), leaking)
    assert store.current("fraud") is None
