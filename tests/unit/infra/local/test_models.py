"""The end of `make up` says when no model decides, why, and what to do."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.memory_model_store import MemoryModelStore
from flywheel.client.fitting_models import is_deployed
from flywheel.contracts.settings import PlatformSettings
from flywheel.contracts.training import GateResult
from infra.local.models import told_when_undeployed
from infra.local.up import summary
from tests.serving_parts import USECASE, deploy, publish

FAILED = (GateResult(name="observed_to_expected", passed=False, value=2.0, demand="within 0.5 and 1.5"),)


@pytest.fixture
def models() -> MemoryModelStore:
    return MemoryModelStore()


def test_without_any_model_the_rule_answers(models: MemoryModelStore) -> None:
    said = told_when_undeployed(models, USECASE)
    assert said.startswith("No model is deployed: the rule of fraud answers. None of the declared features")
    assert said.endswith("make train")


def test_gates_that_the_newest_model_failed_are_named(models: MemoryModelStore) -> None:
    publish(models, "v1", gates=FAILED, created_at=datetime(2026, 2, 1, tzinfo=UTC))
    publish(models, "a-later-name", gates=(), created_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert "The newest, v1, did not pass observed_to_expected (make models)." in told_when_undeployed(models, USECASE)


def test_a_deployed_model_needs_no_words(models: MemoryModelStore) -> None:
    publish(models, "v1")
    deploy(models, "v1")
    assert told_when_undeployed(models, USECASE) == ""


def test_a_model_of_other_features_decides_nothing(models: MemoryModelStore) -> None:
    publish(models, "v1", feature_fingerprint="0" * 16)
    deploy(models, "v1")
    assert not is_deployed(models, USECASE)
    assert "None of the declared features is trained" in told_when_undeployed(models, USECASE)


def test_who_starts_the_stack_reads_it_at_the_end(tmp_path: Path) -> None:
    settings = PlatformSettings(data_dir=tmp_path, model_dir=tmp_path / "models")
    store = FileModelStore(settings.model_dir)
    publish(store, "v1", gates=FAILED)
    assert "s.\n\nNo model is deployed: the rule of fraud" in summary(settings, (), 1.0)
    deploy(store, "v1")
    assert "No model" not in summary(settings, (), 1.0)
