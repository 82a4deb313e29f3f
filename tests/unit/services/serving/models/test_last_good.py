"""A model store that is gone or broken stops no start: what was served last is on this machine's own disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.last_good_models import LastGoodModels
from flywheel.adapters.onnx_scorer import OnnxScorer
from services.serving.models.line_up import Models
from tests.serving_parts import USECASE, deploy, publish


@pytest.fixture
def store(tmp_path: Path) -> FileModelStore:
    """Two versions, the second one deployed with a shadow."""
    made = FileModelStore(tmp_path / "models")
    for version in ("v1", "v2", "v3"):
        publish(made, version)
    deploy(made, "v1")
    deploy(made, "v2", shadow="v3")
    return made


def starting(tmp_path: Path) -> Models:
    models = Models(
        USECASE,
        FileModelStore(tmp_path / "models"),
        OnnxScorer,
        last_good=LastGoodModels(tmp_path / "copy"),
        on_swap=lambda: None,
    )
    models.refresh()
    return models


def versions(models: Models) -> list[str]:
    return [model.version for _, model in models.lineup().models()]


def degraded() -> float:
    return float(REGISTRY.get_sample_value("flywheel_serving_models_degraded", {"usecase": USECASE.name}) or 0)


@pytest.mark.usefixtures("store")
def test_without_its_store_a_start_serves_what_was_served_and_heals_by_itself(tmp_path: Path) -> None:
    starting(tmp_path)
    (tmp_path / "models").rename(tmp_path / "away")
    models = starting(tmp_path)
    assert versions(models) == ["v2", "v3"]
    assert "degraded" in models.detail
    assert degraded() == 1
    (tmp_path / "away").rename(tmp_path / "models")
    models.refresh()
    assert (versions(models), models.detail, degraded()) == (["v2", "v3"], "model v2", 0)


@pytest.mark.usefixtures("store")
def test_a_log_that_cannot_be_read_is_as_good_as_none(tmp_path: Path) -> None:
    starting(tmp_path)
    log = tmp_path / "models" / "fraud" / "deployments.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole[:-20])
    models = starting(tmp_path)
    assert versions(models) == ["v2", "v3"]
    assert "cannot be read" in models.detail
    log.write_bytes(whole)
    models.refresh()
    assert models.detail == "model v2"


def test_a_damaged_version_comes_from_the_copy_until_it_is_repaired(tmp_path: Path, store: FileModelStore) -> None:
    starting(tmp_path)
    file = tmp_path / "models" / "fraud" / "v2" / "model.onnx"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"?")
    models = starting(tmp_path)
    assert versions(models) == ["v2", "v3"]
    assert models.detail == "model v2; degraded: v2 from the local copy"
    file.write_bytes(whole)
    models.refresh()
    assert (models.detail, degraded()) == ("model v2", 0)
    deploy(store, "v1")
    models.refresh()
    assert versions(models) == ["v1"]


@pytest.mark.usefixtures("store")
def test_while_running_the_present_models_stay(tmp_path: Path) -> None:
    models = starting(tmp_path)
    shutil.rmtree(tmp_path / "models")
    models.refresh()
    assert versions(models) == ["v2", "v3"]
    assert "the deployment log is gone" in models.detail


@pytest.mark.usefixtures("store")
def test_a_damaged_copy_is_no_model(tmp_path: Path) -> None:
    starting(tmp_path)
    shutil.rmtree(tmp_path / "models")
    file = tmp_path / "copy" / "fraud" / "v2" / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    models = starting(tmp_path)
    assert versions(models) == []
    assert "no model yet" in models.detail


@pytest.mark.usefixtures("store")
def test_a_damaged_copy_is_made_anew(tmp_path: Path) -> None:
    starting(tmp_path)
    file = tmp_path / "copy" / "fraud" / "v2" / "model.onnx"
    whole = file.read_bytes()
    file.write_bytes(b"")
    starting(tmp_path)
    assert file.read_bytes() == whole


def test_only_a_few_versions_are_kept(tmp_path: Path, store: FileModelStore) -> None:
    models = starting(tmp_path)
    for number in range(10, 30):
        publish(store, f"v{number}")
        deploy(store, f"v{number}")
        models.refresh()
    kept = FileModelStore(tmp_path / "copy").versions("fraud")
    assert len(kept) == 6
    assert "v29" in kept


@pytest.mark.usefixtures("store")
def test_a_copy_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("no directory")
    models = starting(tmp_path)
    assert versions(models) == ["v2", "v3"]
