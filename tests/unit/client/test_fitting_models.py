"""A model of the declared features is asked for only where none is deployed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from flywheel.adapters.file_model_store import FileModelStore
from flywheel.client.commands import main
from flywheel.client.fitting_models import fitting, is_deployed
from flywheel.contracts.training import TrainingRequested
from tests.serving_parts import USECASE, deploy, publish


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileModelStore:
    """The model store that the command finds."""
    monkeypatch.setenv("FLYWHEEL_DATA_DIR", str(tmp_path))
    return FileModelStore(tmp_path / "models")


def test_only_models_of_the_declared_features_fit(store: FileModelStore) -> None:
    publish(store, "of-these")
    publish(store, "of-others", feature_fingerprint="0" * 16)
    assert [found.version for found in fitting(store, USECASE, ["of-others", "gone", "of-these"])] == ["of-these"]


def test_a_published_model_is_not_deployed_yet(store: FileModelStore) -> None:
    publish(store, "v1")
    assert not is_deployed(store, USECASE)
    deploy(store, "v1")
    assert is_deployed(store, USECASE)


@pytest.mark.parametrize("fits", [True, False])
def test_training_is_asked_for_unless_a_fitting_model_is_deployed(
    fits: bool, store: FileModelStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(store, "v1", feature_fingerprint=USECASE.fingerprint if fits else "0" * 16)
    deploy(store, "v1")
    asked: list[str] = []

    async def trained(usecase: str, *_: object, **__: object) -> tuple[TrainingRequested, None]:
        asked.append(usecase)
        return TrainingRequested(request_id="r", requested_at=datetime(2026, 1, 1, tzinfo=UTC), reason="a test"), None

    monkeypatch.setattr("flywheel.client.commands.train", trained)
    assert main(["train", "fraud", "--unless-deployed"]) == 0
    assert asked == ([] if fits else ["fraud"])
    assert ("deployed already" in capsys.readouterr().out) == fits
