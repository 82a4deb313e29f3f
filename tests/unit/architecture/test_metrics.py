"""Metrics are declared in one place, each documented, with its unit in its name, and each is set by somebody."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram

from flywheel.contracts import metrics

ROOT = Path(__file__).resolve().parents[3]
DECLARED = {name: value for name, value in vars(metrics).items() if isinstance(value, Counter | Gauge | Histogram)}
SOURCES = [
    (path, path.read_text())
    for folder in ("flywheel", "services", "infra", "usecases")
    for path in (ROOT / folder).rglob("*.py")
    if path.name != "metrics.py"
]


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_every_metric_is_used(name: str) -> None:
    assert any(re.search(rf"\b{name}\b", text) for _, text in SOURCES)


@pytest.mark.parametrize("metric", DECLARED.values(), ids=DECLARED)
def test_every_metric_says_what_it_means(metric: Counter | Gauge | Histogram) -> None:
    (family,) = metric.describe()
    assert family.documentation.endswith(".")
    assert family.name.startswith("flywheel_")


@pytest.mark.parametrize("metric", DECLARED.values(), ids=DECLARED)
def test_no_label_is_one_that_is_added_on_the_way(metric: Counter | Gauge | Histogram) -> None:
    """Prometheus adds job and instance, and renames what was called so; serving's workers are told apart by worker."""
    assert {"job", "instance", "worker", "le"}.isdisjoint(metric._labelnames)


def test_nobody_else_creates_metrics() -> None:
    creating = [
        str(path.relative_to(ROOT))
        for path, text in SOURCES
        if re.search(r"\b(Counter|Gauge|\w*Histogram)\(\s*\"", text)
    ]
    assert creating == []
