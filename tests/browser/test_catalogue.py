"""The feature catalogue in a real browser: what is declared and measured is on it, and what is sought is found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flywheel.kernel import catalog
from services.monitor.contents import Contents
from tests import attribute_scene, monitor_scene
from tests.browser_pages import needs_browser, opened, served, text_of
from tests.monitor_scene import CHALLENGER, CHAMPION, LOAD_AGE_MS, Scene
from usecases.fraud import usecase

pytestmark = needs_browser


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Contents]]:
    """The address of a monitor that has seen a fortnight, and what its catalogue says."""
    scene = Scene(per_day=100)
    scene.deploy()
    scene.days(0, 14, amounts_times=1.6)
    monitor = scene.monitor(data_dir=tmp_path_factory.mktemp("monitor"), monitor_refresh_s=0.5)
    with served(monitor) as address:
        yield f"{address}/catalogue", Contents.model_validate_json(monitor.watch.catalogue_json)


def features_of(page: str) -> list[str]:
    return re.findall(r'<details class="feature" id="feature-([a-z0-9_]+)"', page)


def test_every_feature_is_there_with_its_meaning_and_measures(shown: tuple[str, Contents], tmp_path: Path) -> None:
    address, contents = shown
    page, console = opened(address, tmp_path)
    text = text_of(page)
    assert console == ""
    assert features_of(page) == list(usecase.feature_names)
    assert contents.decisions > 0
    for entry in contents.features:
        assert entry.definition.meaning in text
        assert entry.drift is not None
        assert f"{entry.drift.psi:.3f}" in text
    assert page.count('aria-label="distribution of') == len(usecase.features)
    for expected in ("23 over windows, 7 at the request", "card, terminal", "2 versions", CHAMPION, "exceeds"):
        assert expected in text, f"{expected!r} is not on the page"


def test_a_link_opens_its_feature_with_all_that_is_known(shown: tuple[str, Contents], tmp_path: Path) -> None:
    page, console = opened(f"{shown[0]}#feature-amount_vs_card_mean_30d", tmp_path)
    assert console == ""
    (row,) = re.findall(r'<details class="feature" id="feature-amount_vs_card_mean_30d" open="">.*?</details>', page)
    assert 'href="#feature-card_transaction_amount_cents_mean_30d"' in row
    assert 'href="#event-transaction-amount_cents"' in row
    assert 'id="event-transaction-amount_cents"' in page
    text = text_of(row)
    for expected in ("personal", "made of card_id", "payments risk", "amount far above usual", f"{CHAMPION} champion"):
        assert expected in text, f"{expected!r} is not in the row"
    assert f"{CHALLENGER} challenger" in text
    assert re.search(r"median [\d,.K]+, nine of ten between", text)


def test_what_is_sought_is_found(shown: tuple[str, Contents], tmp_path: Path) -> None:
    page, console = opened(f"{shown[0]}?q=Chargeback+terminal_id", tmp_path)
    assert console == ""
    assert features_of(page) == [f"terminal_chargeback_count_{window}" for window in ("24h", "7d", "30d")]
    assert "3 of 30" in text_of(page)


@contextmanager
def with_attributes(directory: Path, load_age_ms: float = LOAD_AGE_MS) -> Iterator[str]:
    """The address of the catalogue of a use case with attributes, whose loads are so old."""
    scene = Scene(per_day=100, declared=attribute_scene.USECASE)
    scene.deploy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor_scene, "LOAD_AGE_MS", load_age_ms)
        scene.days(0, 4)
        patch.setattr(catalog, "load", lambda _name: attribute_scene.USECASE)
        monitor = scene.monitor(data_dir=directory, monitor_refresh_s=0.5)
    with served(monitor) as address:
        yield f"{address}/catalogue"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with with_attributes(tmp_path_factory.mktemp("monitor")) as address:
        yield address


def test_loads_as_of_later_are_told_as_such_and_not_as_younger_than_nothing(tmp_path: Path) -> None:
    with with_attributes(tmp_path / "monitor", load_age_ms=-2 * 86_400_000.0) as address:
        page, console = opened(f"{address}#feature-terminal_floor_limit_cents", tmp_path / "browser")
    assert console == ""
    assert "loads as of 2 days later (median), not used yet; fresh" in text_of(page)
    assert "-2" not in text_of(page)


def test_an_attribute_is_shown_with_its_table_and_how_long_it_is_valid(loaded: str, tmp_path: Path) -> None:
    page, console = opened(f"{loaded}#feature-terminal_floor_limit_cents", tmp_path)
    assert console == ""
    for expected in ("23 over windows, 4 loaded, 8 at the request", "card, terminal, pair"):
        assert expected in text_of(page), f"{expected!r} is not on the page"
    (row,) = re.findall(r'<details class="feature" id="feature-terminal_floor_limit_cents" open="">.*?</details>', page)
    text = text_of(row)
    for expected in (
        "terminal_profile floor_limit_cents, by terminal_id 30 d valid",
        "table terminal_profile · floor_limit_cents , loaded from a batch",
        "terminal, by terminal_id",
        "30 d from the moment a load is as of, or until the next",
        "-1, where nothing valid is loaded; 25.0 % of decisions now",
        "loads 3 days old (median); fresh in 75.0 %, missing in 25.0 % of decisions",
    ):
        assert expected in text, f"{expected!r} is not in the row, which says {text}"
    assert "at request" not in text


def test_attributes_are_found_by_their_table_and_column(loaded: str, tmp_path: Path) -> None:
    for asked, found in {
        "terminal_profile": ["terminal_floor_limit_cents", "terminal_opened_days"],
        "segments": ["card_rank"],
        "trust+card_id": ["pair_share"],
    }.items():
        page, console = opened(f"{loaded}?q={asked}", tmp_path / asked)
        assert console == ""
        assert features_of(page) == found
        assert ("for ever valid" in text_of(page)) == (asked == "segments")


def test_before_the_first_model_the_declaration_is_there_alone(tmp_path: Path) -> None:
    scene = Scene(per_day=20)
    scene.days(0, 1)
    with served(scene.monitor(data_dir=tmp_path)) as address:
        page, console = opened(f"{address}/catalogue#feature-card_transaction_count_1h", tmp_path / "profile")
    assert console == ""
    assert features_of(page) == list(usecase.feature_names)
    assert "no model deployed yet" in text_of(page)
    assert "A model that is deployed brings the distribution it was trained on" in text_of(page)
