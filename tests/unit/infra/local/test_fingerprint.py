"""Settings are compared by digest: a changed one is named, none is kept."""

from __future__ import annotations

from pathlib import Path

from infra.local import fingerprint
from tests import attribute_scene
from usecases.fraud import usecase as USECASE


def test_only_settings_of_the_platform_count() -> None:
    assert fingerprint.of({"PATH": "/bin", "FLYWHEEL_STACK": "x"}, "", USECASE) == {
        "the features of fraud": USECASE.fingerprint
    }


def test_changes_are_named_and_values_not_kept(tmp_path: Path) -> None:
    before = fingerprint.of({"FLYWHEEL_PSEUDONYM_KEY": "secret", "FLYWHEEL_WORLD_RATE": "50"}, "A=1", USECASE)
    fingerprint.remember(tmp_path, before)
    assert fingerprint.changed(tmp_path, before) == []
    after = fingerprint.of({"FLYWHEEL_PSEUDONYM_KEY": "secret", "FLYWHEEL_WORLD_RATE": "80"}, "A=2", USECASE)
    assert fingerprint.changed(tmp_path, after) == [".env", "FLYWHEEL_WORLD_RATE"]
    assert "secret" not in "".join(path.read_text() for path in tmp_path.iterdir())


def test_the_first_start_changes_nothing(tmp_path: Path) -> None:
    assert fingerprint.changed(tmp_path, {"FLYWHEEL_WORLD_RATE": "x"}) == []


def test_other_features_are_another_stack(tmp_path: Path) -> None:
    fingerprint.remember(tmp_path, fingerprint.of({}, "", USECASE))
    others = fingerprint.of({}, "", attribute_scene.USECASE)
    assert fingerprint.changed(tmp_path, others) == ["the features of fraud"]
