"""The README says what is true: its links lead somewhere, its commands exist, its figures are the measured ones."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from benchmarks.render import DOCUMENTS, meets, rendered, table

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def test_every_box_of_the_picture_is_a_folder() -> None:
    (picture,) = re.findall(r"<pre>(.*?)</pre>", README, re.DOTALL)
    linked = re.findall(r'<a href="([^"]+)">', picture)
    folders = {f"services/{name}" for name in ("ingest", "features", "trainer", "serving", "monitor")}
    assert folders <= set(linked)
    assert all((ROOT / folder).is_dir() for folder in linked)


def test_relative_links_lead_somewhere() -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert all((ROOT / link).exists() for link in linked)


def documented_targets() -> set[str]:
    return set(re.findall(r"\bmake ([a-z][a-z-]*)", README))


@pytest.mark.parametrize("target", sorted(documented_targets()))
def test_every_documented_target_exists_and_explains_itself(target: str) -> None:
    assert re.search(rf"^{target}:.*## \S", MAKEFILE, re.MULTILINE)


def test_help_lists_every_target() -> None:
    done = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in re.findall(r"^([a-z][a-z-]*):.*##", MAKEFILE, re.MULTILINE):
        assert re.search(rf"\b{target}\b", done.stdout)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_figures_are_rendered_from_measurements(document: Path) -> None:
    text = document.read_text()
    assert rendered(text) == text


def test_every_measurement_kept_has_its_target_and_its_table() -> None:
    targets = set(re.findall(r"^figures-([a-z]+):", MAKEFILE, re.MULTILINE)) - {"render"}
    tables = re.findall(r"<!-- figures: ([a-z]+) -->", (ROOT / "docs" / "figures.md").read_text())
    kept = [path.stem for path in (ROOT / "docs" / "figures").glob("*.json")]
    assert tables
    # A table may be there before it is measured, and says so; nothing is measured and not shown.
    assert set(kept) <= set(tables)
    assert len(tables) == len(set(tables))
    assert set(tables) <= targets


def test_a_missed_goal_is_shown_as_missed() -> None:
    measured = {"commit": "c", "machine": "m", "figures": {"a": 2.0, "b": None}, "goals": {"a": "<= 1", "b": ">= 1"}}
    assert table(measured).count("**not met**") == 2
    assert meets(1.0, "<= 1")
    with pytest.raises(ValueError, match="is not a goal"):
        meets(1.0, "about 1")


def test_pictures_are_small_enough_to_be_cloned() -> None:
    pictures = list((ROOT / "docs" / "images").iterdir())
    assert pictures
    assert all(picture.stat().st_size < 300_000 for picture in pictures)
