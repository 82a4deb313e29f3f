"""The page of settings says what is declared: each one, its default, its meaning."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from infra import settings_reference as reference

PAGE = reference.PAGE.read_text()
ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_what_the_script_makes() -> None:
    assert reference.rendered(PAGE) == PAGE


def test_every_part_has_its_table() -> None:
    assert reference.listed(PAGE) == list(reference.parts())


def test_every_service_is_listed() -> None:
    services = {path.parent.name for path in (ROOT / "services").glob("*/settings.py")}
    assert services == set(reference.SETTINGS) - {"platform"}


def test_what_is_named_in_the_text_exists() -> None:
    tables = set(re.findall(r"^\| `(FLYWHEEL_[A-Z_]+)`", PAGE, re.MULTILINE))
    assert set(re.findall(r"FLYWHEEL_[A-Z_]+", PAGE)) <= tables
    assert {"FLYWHEEL_KAFKA_BOOTSTRAP", "FLYWHEEL_MONITOR_WINDOW", "FLYWHEEL_WORLD_CUSTOMERS"} <= tables


def test_links_lead_somewhere() -> None:
    assert all((reference.PAGE.parent / link).exists() for link in re.findall(r"\]\((?!https?:)([^)#]+)", PAGE))


def test_a_setting_without_a_meaning_is_refused() -> None:
    class Silent(BaseModel):
        limit: int = 3

    with pytest.raises(reference.Undescribed, match=r"Silent\.limit"):
        list(reference._rows(Silent, "X_"))
