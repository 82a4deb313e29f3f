"""Dashboards: as declared, as Grafana reads them, about what is scraped, and nothing that is scraped is left out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as grafana
from grafana_foundation_sdk.models import units

from flywheel.contracts import metrics
from infra.observability import dashboards
from infra.observability.dashboards.panels import Dashboard, Panel, Query, UndeclaredLabel, rate, share
from infra.observability.declared import facts
from infra.observability.generated import DASHBOARDS, FOLDER, files
from infra.observability.grafana_json import DATASOURCE, document
from tests.prometheus_rules import label_check, rules

FILES = sorted(DASHBOARDS.glob("*.json"))
PANELS = [(each, panel) for each in dashboards.ALL for panel in each.panels]
QUERIES = [(f"{each.name}: {panel.title}", query) for each, panel in PANELS for query in panel.queries]
UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}
_COLUMNS = 24
_OF_PROMETHEUS = re.compile(
    r"\.annotations\.list\[\d\]\.(step|titleFormat|textFormat)|\.templating\.list\[0\]\.definition"
)
"""Fields that Grafana leaves to the data source, which its types therefore do not have."""

register_default_plugins()


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_what_is_committed_is_what_is_declared(path: Path) -> None:
    assert path.read_text() == files()[path], "run `python -m infra.observability`"


def test_no_dashboard_is_left_from_before() -> None:
    assert set(FILES) == {path for path in files() if path.suffix == ".json"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_grafana_knows_every_field(path: Path) -> None:
    given = json.loads(path.read_text())
    read = json.loads(JSONEncoder(sort_keys=True).encode(grafana.Dashboard.from_json(given)))
    assert [where for where in unread(given, read) if not _OF_PROMETHEUS.fullmatch(where)] == []


@pytest.mark.parametrize("dashboard", dashboards.ALL, ids=lambda each: each.name)
def test_panels_have_places_of_their_own(dashboard: Dashboard) -> None:
    laid_out: Any = document(dashboard)["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in laid_out:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= _COLUMNS
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert taken.isdisjoint(cells), panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in laid_out}) == len(laid_out)


@pytest.mark.parametrize(("dashboard", "panel"), PANELS, ids=lambda each: getattr(each, "title", ""))
def test_every_panel_says_what_it_shows(dashboard: Dashboard, panel: Panel) -> None:
    assert panel.meaning.endswith(".")
    assert [each.title for each in dashboard.panels].count(panel.title) == 1
    assert panel.shown_unit in UNITS or panel.shown_unit.startswith("suffix:")


@pytest.mark.parametrize("query", [query for _, query in QUERIES], ids=[name for name, _ in QUERIES])
def test_every_query_is_about_what_is_scraped(query: Query) -> None:
    labels = label_check().labels(with_values(query.expr))
    assert set(re.findall(r"{{(\w+)}}", query.legend)) <= labels


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_annotations_and_variables_are_about_what_is_scraped(path: Path) -> None:
    given = json.loads(path.read_text())
    for annotation in given["annotations"]["list"]:
        labels = label_check().labels(with_values(annotation["expr"]))
        assert set(re.findall(r"{{(\w+)}}", annotation["titleFormat"] + annotation["textFormat"])) <= labels
    for variable in given["templating"]["list"]:
        ((metric, label),) = re.findall(r"^label_values\((\w+), (\w+)\)$", variable["definition"])
        assert label in label_check().labels(metric)


def test_every_metric_is_on_a_dashboard_or_alarms() -> None:
    shown = " ".join([*(query.expr for _, query in QUERIES), *(rule.expr for rule in rules())])
    missing = [name for name, each in facts().items() if not any(series in shown for series in each.series())]
    assert missing == []


def test_a_label_that_a_metric_does_not_have_is_refused() -> None:
    with pytest.raises(UndeclaredLabel, match="has no label arm"):
        rate(metrics.INGEST_EVENTS, by="arm")
    with pytest.raises(UndeclaredLabel, match="has no label state"):
        share(metrics.SERVING_FEATURE_STATUS, 'state="stale"')


def test_units_follow_from_names() -> None:
    assert rate(metrics.SERVING_DECISIONS).unit == "cps"
    assert share(metrics.SERVING_FEATURE_STATUS, 'status="stale"').unit == "percentunit"
    assert {panel.shown_unit for _, panel in PANELS if "memory" in panel.title.lower()} == {"bytes"}


def test_grafana_is_given_the_datasource_that_dashboards_ask() -> None:
    (source,) = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert (source["uid"], source["type"]) == (DATASOURCE["uid"], DATASOURCE["type"])
    prometheus = yaml.safe_load((FOLDER / "prometheus/prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/flywheel.yml").read_text())["providers"]
    assert provider["type"] == "file"


def with_values(expr: str) -> str:
    """The expression as Prometheus gets it."""
    return expr.replace("$__rate_interval", "1m").replace("$usecase", "fraud")


def unread(given: Any, read: Any, where: str = "") -> list[str]:
    """What is given and did not survive being read by Grafana's own types."""
    if isinstance(given, dict):
        if not isinstance(read, dict):
            return [where]
        lost = [f"{where}.{key}" for key, value in given.items() if value and key not in read]
        kept = (unread(value, read[key], f"{where}.{key}") for key, value in given.items() if key in read)
        return lost + [path for paths in kept for path in paths]
    if isinstance(given, list):
        if not isinstance(read, list) or len(given) != len(read):
            return [where]
        pairs = enumerate(zip(given, read, strict=True))
        return [path for index, pair in pairs for path in unread(*pair, f"{where}[{index}]")]
    return [] if given == read else [f"{where}: {given!r} became {read!r}"]
