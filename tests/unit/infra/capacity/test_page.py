"""The page is what the command makes of the figures that are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.capacity.__main__ import main
from infra.capacity.measured import FIGURES, capacities
from infra.capacity.model import Assumptions
from infra.capacity.page import PAGE, rendered


def test_the_page_is_rendered_from_the_figures() -> None:
    text = PAGE.read_text()
    assert rendered(text, capacities(), Assumptions()) == text


def test_other_figures_make_another_page(tmp_path: Path) -> None:
    for path in FIGURES.glob("*.json"):
        measured = json.loads(path.read_text())
        if path.stem == "serving":
            measured["figures"]["rps_ours"] *= 2
        (tmp_path / path.name).write_text(json.dumps(measured))
    text = "<!-- capacity: sizes -->\n<!-- /capacity -->"
    assert rendered(text, capacities(tmp_path), Assumptions()) != rendered(text, capacities(), Assumptions())


def test_a_table_that_does_not_exist_is_refused() -> None:
    with pytest.raises(KeyError):
        rendered("<!-- capacity: profits -->\n<!-- /capacity -->", capacities(), Assumptions())


def test_assumptions_of_ones_own_leave_the_page_alone(capsys: pytest.CaptureFixture[str]) -> None:
    before = PAGE.read_text()
    assert main(["--core-hour", "0.5"]) == 0
    assert PAGE.read_text() == before
    assert "| `core_hour` | 0.5 |" in capsys.readouterr().out
