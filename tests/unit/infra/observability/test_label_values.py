"""Rules and panels compare labels with values that somebody sets: a wrong one matches nothing, or everything."""

from __future__ import annotations

import re

import grpc
import pytest

from flywheel.contracts.decisions import Fallback
from flywheel.kernel.admission import Criticality, Reason
from infra.observability import dashboards
from infra.observability.declared import facts
from tests.prometheus_rules import rules
from tests.promql_labels import values

EXPRESSIONS = [
    *(rule.expr for rule in rules()),
    *(query.expr for each in dashboards.ALL for panel in each.panels for query in panel.queries),
]
COMPARED = sorted(
    {
        found
        for expr in EXPRESSIONS
        for found in values(expr.replace("$__rate_interval", "1m"))
        if found[0].startswith("flywheel_") and found[1] not in ("usecase", "le")
    }
)
ANYWHERE = {"status": {code.name for code in grpc.StatusCode}, "criticality": {each.word for each in Criticality}}
"""Values that are not the metric's own."""


@pytest.mark.parametrize(("series", "label", "value"), COMPARED)
def test_a_value_is_one_of_those_that_the_metric_s_meaning_lists(series: str, label: str, value: str) -> None:
    fact = next(each for each in facts().values() if series in each.series())
    listed = set(re.findall(r"\w+", fact.meaning)) | ANYWHERE.get(label, set())
    assert value.removeprefix(".*") in listed


def test_meanings_list_the_values_that_code_sets() -> None:
    assert set(Fallback) <= words("flywheel_serving_decisions_total")
    assert {reason.word for reason in Reason} <= words("flywheel_serving_not_admitted_total")


def words(metric: str) -> set[str]:
    return set(re.findall(r"\w+", facts()[metric].meaning))
