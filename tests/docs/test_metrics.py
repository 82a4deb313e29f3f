"""The page of metrics has all of them, and what it and the page of observability name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.observability import reference
from infra.observability.declared import facts, series
from infra.observability.generated import files

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [DOCS / "metrics.md", DOCS / "observability.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_what_the_script_makes(page: Path) -> None:
    assert files()[page] == page.read_text(), "run `python -m infra.observability`"


def test_every_part_has_its_table() -> None:
    assert reference.listed(PAGES[0].read_text()) == reference.parts()


@pytest.mark.parametrize("name", facts())
def test_every_metric_has_its_row(name: str) -> None:
    assert re.search(rf"^\| `{name}` \| .+ \| .+ \| .+ \|$", PAGES[0].read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_metrics_that_are_named_exist(page: Path) -> None:
    named = set(re.findall(r"`(flywheel_[a-z_]+)[`{]", page.read_text()))
    assert named <= series().keys() | facts().keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert all((DOCS / link).exists() for link in linked)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_are_named_exist(page: Path) -> None:
    declared = set(re.findall(r"^\| `(FLYWHEEL_[A-Z_]+)`", (DOCS / "settings.md").read_text(), re.MULTILINE))
    assert set(re.findall(r"FLYWHEEL_[A-Z_]+", page.read_text())) <= declared


def test_the_runbook_s_references_lead_somewhere() -> None:
    page = PAGES[1].read_text()
    titles = {title.lower() for title in re.findall(r"^### (\w+)$", page, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([a-z]+)\)", page)) <= titles
