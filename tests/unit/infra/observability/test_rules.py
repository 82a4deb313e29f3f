"""Rules: each can match, says what is wrong and what to do, and fires when it should and only then."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flywheel.contracts.metrics import SERVING_SECONDS
from infra.observability.generated import RULES
from infra.observability.objectives import BURNS, WINDOWS, Burn, budget_s, objectives, usecases
from tests.prometheus_rules import Rule, label_check, rules
from tests.promql_labels import CannotMatch

ROOT = Path(__file__).resolve().parents[4]
RUNBOOK = (ROOT / "docs" / "observability.md").read_text()
SCENES = sorted((Path(__file__).parent / "rules").glob("*.yml"))
ALERTS = [rule for rule in rules() if rule.alerts]


def promtool() -> str | None:
    """Prometheus' own checker: on PATH, or beside the named binary."""
    named = os.environ.get("FLYWHEEL_PROMETHEUS", "")
    return shutil.which("promtool") or (shutil.which(Path(named).parent / "promtool") if named else None)


needs_promtool = pytest.mark.skipif(promtool() is None, reason="no promtool on this machine: rules are not evaluated")


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
def test_every_rule_is_about_what_is_scraped(rule: Rule) -> None:
    label_check().labels(rule.expr)


@pytest.mark.parametrize(
    ("expr", "why"),
    [
        ("flywheel_serving_decision_total", "nobody exposes flywheel_serving_decision_total"),
        ('flywheel_serving_decisions_total{usecaze="fraud"}', "there is no usecaze"),
        ("sum by (arm) (flywheel_edge_lag_seconds)", "there is no arm"),
        ("flywheel_edge_lag_seconds > usecase:flywheel_freshness_bound:seconds", "the sides of > differ by instance"),
        ("histogram_quantile(0.9, sum by (usecase) (flywheel_serving_decision_seconds_bucket))", "there is no le"),
        ("flywheel_edge_lag_seconds > on (job) usecase:flywheel_freshness_bound:seconds", "there is no job"),
    ],
)
def test_what_can_give_no_result_is_found(expr: str, why: str) -> None:
    with pytest.raises(CannotMatch, match=re.escape(why)):
        label_check().labels(expr)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_every_alert_says_what_is_wrong_and_what_to_do(alert: Rule) -> None:
    assert alert.labels["severity"] in ("page", "ticket")
    assert set(alert.annotations) == {"summary", "description", "runbook"}
    page, _, anchor = alert.annotations["runbook"].partition("#")
    assert page == "docs/observability.md"
    assert anchor == alert.name.lower()
    assert re.search(rf"^#+ {alert.name}$", RUNBOOK, re.MULTILINE)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_alerts_name_labels_that_they_have(alert: Rule) -> None:
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(alert.annotations.values())))
    assert used <= label_check().labels(alert.expr) | alert.labels.keys()


def test_the_runbook_is_about_alerts_that_exist() -> None:
    runbook = RUNBOOK.partition("## Runbook")[2].partition("\n## ")[0]
    assert re.findall(r"^### (\w+)$", runbook, re.MULTILINE) == [
        alert.name for alert in sorted(ALERTS, key=lambda alert: alert.name)
    ]


def test_names_are_used_once() -> None:
    names = [alert.name for alert in ALERTS]
    assert len(names) == len(set(names))


def test_every_budget_is_a_bound_of_a_bucket() -> None:
    bounds = {float(bound) for bound in SERVING_SECONDS._kwargs["buckets"]}
    assert {budget_s(usecase) for usecase in usecases()} <= bounds


@pytest.mark.parametrize("burn", BURNS, ids=lambda burn: f"{burn.severity}-{burn.long}")
def test_burn_rates_are_possible_and_their_windows_are_recorded(burn: Burn) -> None:
    assert {burn.long, burn.short} <= set(WINDOWS)
    assert all(burn.factor * each.error_budget < 1 for each in objectives())


@needs_promtool
def test_prometheus_takes_rules_and_configuration() -> None:
    tool = promtool() or ""
    files = [str(path) for path in sorted(RULES.glob("*.yml"))]
    for arguments in (["check", "rules", *files], ["check", "config", str(RULES.parent / "prometheus.yml")]):
        done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("scene", SCENES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(scene: Path) -> None:
    done = subprocess.run(
        [promtool() or "", "test", "rules", scene.name],
        cwd=scene.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_scene() -> None:
    played = {name for scene in SCENES for name in re.findall(r'alertname="(\w+)"', scene.read_text())}
    assert played == {alert.name for alert in ALERTS}
