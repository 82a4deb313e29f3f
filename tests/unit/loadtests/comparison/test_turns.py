"""What a person names as A and B."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.figures import ROOT
from loadtests.comparison.turns import side_of
from loadtests.failures import CannotTest


def test_nothing_and_a_dot_are_this_checkout() -> None:
    assert side_of("A", "", []).checkout == side_of("A", ".", []).checkout == ROOT


def test_settings_may_be_named_in_short() -> None:
    side = side_of("B", ".", ["SERVING_WORKERS=2", "FLYWHEEL_LOG_LEVEL=DEBUG"])
    assert side.told == {"FLYWHEEL_SERVING_WORKERS": "2", "FLYWHEEL_LOG_LEVEL": "DEBUG"}
    with pytest.raises(CannotTest, match="NAME=value"):
        side_of("B", ".", ["SERVING_WORKERS"])


def test_a_directory_must_be_a_checkout(tmp_path: Path) -> None:
    with pytest.raises(CannotTest, match="no checkout of this project"):
        side_of("A", str(tmp_path), [])
    (tmp_path / "services" / "serving").mkdir(parents=True)
    assert side_of("A", str(tmp_path), []).checkout == tmp_path


def test_what_is_neither_says_what_there_may_be() -> None:
    with pytest.raises(CannotTest, match=r"'nonsense' is no result \(\.json\), no directory and no commit"):
        side_of("A", "nonsense", [])


def test_a_commit_is_checked_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(tmp_path), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "--allow-empty", "-m", "first")
    monkeypatch.setattr("loadtests.comparison.turns.ROOT", tmp_path)
    monkeypatch.setattr("loadtests.comparison.turns.HOME", tmp_path / "build")
    first = side_of("A", "HEAD", []).checkout
    assert (first / ".git").exists()
    assert side_of("A", git("rev-parse", "HEAD"), []).checkout == first
