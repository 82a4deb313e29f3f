"""The rule files, for the tests that look into them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import yaml

from infra.observability import declared
from infra.observability.generated import RULES
from tests.promql_labels import LabelCheck, Labels


@dataclass(frozen=True)
class Rule:
    """One rule: `name` is what it records, or how the alert is called."""

    name: str
    alerts: bool
    expr: str
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


@cache
def rules() -> tuple[Rule, ...]:
    """Every rule of every file, in order."""
    return tuple(_read())


def _read() -> Iterator[Rule]:
    for path in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                name = rule.get("alert") or rule["record"]
                yield Rule(name, "alert" in rule, rule["expr"], rule.get("labels", {}), rule.get("annotations", {}))


@cache
def label_check() -> LabelCheck:
    """Knows the declared metrics and what rules record of them."""
    scraped = LabelCheck(declared.series(), {})
    recorded: dict[str, Labels] = {}
    for rule in rules():
        if not rule.alerts:
            recorded[rule.name] = recorded.get(rule.name, frozenset()) | scraped.labels(rule.expr) | rule.labels.keys()
    return LabelCheck(declared.series(), recorded)
