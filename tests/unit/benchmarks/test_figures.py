"""Figures are written whole, with the commit and the machine they were measured on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import figures, render


def test_a_file_of_figures_says_what_where_and_how_good(tmp_path: Path) -> None:
    path = figures.write("start", {"up_cold_s": 201.5, "note": "x"}, {"up_cold_s": "<= 360"}, tmp_path)
    content = json.loads(path.read_text())
    assert path == tmp_path / "start.json"
    assert set(content) == {"commit", "machine", "figures", "goals"}
    assert content["figures"] == {"up_cold_s": 201.5, "note": "x"}
    assert content["goals"] == {"up_cold_s": "<= 360"}
    assert "cores" in content["machine"]


def test_a_goal_without_a_figure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="goals without figures: up_warm_s"):
        figures.write("start", {"up_cold_s": 1.0}, {"up_warm_s": "<= 60"}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_changed_files_show_in_the_commit(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert figures.commit(tmp_path) == "unknown"
    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "a")
    head = git("rev-parse", "HEAD")
    assert figures.commit(tmp_path) == head
    (tmp_path / "a").write_text("2")
    assert figures.commit(tmp_path) == f"{head}+changes"


def test_a_table_that_was_never_measured_says_so(tmp_path: Path) -> None:
    text = "<!-- figures: a-b -->\nold\n<!-- /figures -->\n"
    assert "Not measured yet." in render.rendered(text, tmp_path)
    figures.write("a-b", {"speed": 3}, {"speed": ">= 2"}, tmp_path)
    assert "| `speed` | 3 | >= 2 | met |" in render.rendered(text, tmp_path)
