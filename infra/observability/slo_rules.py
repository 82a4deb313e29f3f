"""Prometheus rules that follow from the objectives: error shares over every window, and alarms on their burn rate."""

from __future__ import annotations

from collections.abc import Iterator

from infra.observability.objectives import (
    BURNS,
    PERIOD_DAYS,
    WINDOWS,
    Burn,
    Objective,
    budget_s,
    freshness_s,
    objectives,
    usecases,
)

RUNBOOK = "docs/observability.md"
Rule = dict[str, object]

_SPEED = {"page": "Fast", "ticket": "Slowly"}
# A stack that has just started knows only its first minutes, whatever the window: those alone alarm nobody.
_LASTS = {"page": "2m", "ticket": "30m"}


def groups() -> dict[str, object]:
    """The document of the rule file."""
    return {
        "groups": [
            {"name": "declared", "rules": list(_declared())},
            *({"name": f"objective_{each.name}", "rules": [*_shares(each), *_alerts(each)]} for each in objectives()),
        ]
    }


def _declared() -> Iterator[Rule]:
    for usecase in usecases():
        labels = {"usecase": usecase.name}
        yield _constant("usecase:flywheel_latency_budget:seconds", budget_s(usecase), labels)
        yield _constant("usecase:flywheel_freshness_bound:seconds", freshness_s(usecase), labels)
    for objective in objectives():
        yield _constant("slo:flywheel_objective:ratio", objective.share, {"slo": objective.name})


def _constant(name: str, value: float, labels: dict[str, str]) -> Rule:
    return {"record": name, "expr": f"vector({value:g})", "labels": labels}


def _shares(objective: Objective) -> Iterator[Rule]:
    for window in WINDOWS:
        bad, total = (text.replace("[window]", f"[{window}]") for text in (objective.bad, objective.total))
        yield {"record": _share(window), "expr": f"{bad} / ({total} > 0)", "labels": {"slo": objective.name}}


def _share(window: str) -> str:
    return f"usecase:flywheel_slo_errors:ratio_rate{window}"


def _alerts(objective: Objective) -> Iterator[Rule]:
    for severity, speed in _SPEED.items():
        burns = [burn for burn in BURNS if burn.severity == severity]
        name = f"{objective.alert}Burns{speed}"
        yield {
            "alert": name,
            "expr": " or ".join(_burning(objective, burn) for burn in burns),
            "for": _LASTS[severity],
            "labels": {"severity": severity, "slo": objective.name},
            "annotations": {
                "summary": f"{{{{ $labels.usecase }}}} burns its error budget of {objective.name} "
                f"{'at an alarming rate' if severity == 'page' else 'faster than it may'}",
                "description": f"Good are {objective.meaning}. {{{{ $value | humanizePercentage }}}} were not, over "
                f"{PERIOD_DAYS} days {objective.error_budget:.2%} may be. Windows: "
                f"{' and '.join(f'{burn.long} with {burn.short}' for burn in burns)}.",
                "runbook": f"{RUNBOOK}#{name.lower()}",
            },
        }


def _burning(objective: Objective, burn: Burn) -> str:
    limit = f"{round(burn.factor * objective.error_budget, 9):g}"
    where = f'{{slo="{objective.name}"}}'
    return f"({_share(burn.long)}{where} > {limit} and {_share(burn.short)}{where} > {limit})"
