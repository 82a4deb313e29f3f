"""Panels and queries that several dashboards show alike: the objectives, what is declared, the processes."""

from __future__ import annotations

from infra.observability.dashboards.panels import Panel, Query
from infra.observability.objectives import BURNS, Objective, objectives

_FASTEST = max(burn.factor for burn in BURNS)

BUDGET = Query('usecase:flywheel_latency_budget:seconds{usecase=~"$usecase"}', "budget {{usecase}}", "s")
FRESHNESS_BOUND = Query('usecase:flywheel_freshness_bound:seconds{usecase=~"$usecase"}', "declared {{usecase}}", "s")
UP = Query("up", "{{job}} {{instance}}")


def objective_numbers(width: int = 4) -> tuple[Panel, ...]:
    """For each objective the share of good requests in the last hour, red below the objective."""
    return tuple(_number(each, width) for each in objectives())


def _number(objective: Objective, width: int) -> Panel:
    errors = f'usecase:flywheel_slo_errors:ratio_rate1h{{slo="{objective.name}",usecase=~"$usecase"}}'
    return Panel(
        objective.name.replace("_", " "),
        f"Share in the last hour of {objective.meaning}. Objective: {objective.share:.1%}.",
        (Query(f"1 - {errors}", "{{usecase}}", "percentunit"),),
        kind="number",
        width=width,
        warn=round(1 - objective.error_budget / 2, 6),
        alarm=objective.share,
        most=1,
    )


BURNING = Panel(
    "How fast the error budgets burn",
    "1 uses up the month's budget in a month. A page goes out where the hour and its last five minutes both burn "
    f"{_FASTEST:g} times as fast.",
    (
        Query(
            'usecase:flywheel_slo_errors:ratio_rate1h{usecase=~"$usecase"} '
            "/ on (slo) group_left () (1 - slo:flywheel_objective:ratio)",
            "{{slo}} {{usecase}}, 1 h",
            "none",
        ),
        Query(
            'usecase:flywheel_slo_errors:ratio_rate5m{usecase=~"$usecase"} '
            "/ on (slo) group_left () (1 - slo:flywheel_objective:ratio)",
            "{{slo}} {{usecase}}, 5 min",
            "none",
        ),
    ),
    warn=1,
    alarm=_FASTEST,
)
FIRING = Panel(
    "Alerts that fire",
    "What Prometheus finds wrong now. The runbook of each is in docs/observability.md.",
    (Query('ALERTS{alertstate="firing"}', "{{alertname}}"),),
    kind="table",
)
MEMORY = Panel(
    "Memory of the processes",
    "Resident memory of what Python runs; Java's is in `make status`.",
    (Query("sum by (job) (process_resident_memory_bytes)", "{{job}}", "bytes"),),
)
PROCESSORS = Panel(
    "Processors used",
    "Cores that each process keeps busy; Spark's own Java process is not among them.",
    (Query("sum by (job) (rate(process_cpu_seconds_total[$__rate_interval]))", "{{job}}", "none"),),
    kind="stacked",
)
