"""Is the loop turning, and is anything wrong?"""

from __future__ import annotations

from dataclasses import replace

from flywheel.contracts import metrics
from infra.observability.dashboards import objective_panels as shared
from infra.observability.dashboards.panels import Dashboard, Panel, Query, Row, quantile, rate, value

DASHBOARD = Dashboard(
    "overview",
    "Flywheel · Overview",
    "Is the loop turning, and is anything wrong?",
    (
        Row(
            "Now",
            (
                Panel(
                    "Parts that answer",
                    "Of the processes that Prometheus asks, how many answer.",
                    (Query("sum(up)", "up", "none"), Query("count(up)", "of", "none")),
                    kind="number",
                    width=4,
                ),
                *shared.objective_numbers(),
                Panel(
                    "Alerts",
                    "How many fire.",
                    (Query('count(ALERTS{alertstate="firing"}) or vector(0)', "firing", "none"),),
                    kind="number",
                    width=4,
                    warn=1,
                    alarm=3,
                ),
            ),
        ),
        Row(
            "The loop",
            (
                Panel(
                    "Events taken in",
                    "Accepted by the broker, by event.",
                    (rate(metrics.INGEST_EVENTS, by="event", where='outcome="accepted"', unit="eps"),),
                    kind="stacked",
                ),
                Panel(
                    "Decisions",
                    "Answered, by action.",
                    (rate(metrics.SERVING_DECISIONS, by="action"),),
                    kind="stacked",
                ),
                Panel(
                    "Time of a decision",
                    "Inside serving, against the declared budget.",
                    (
                        quantile(metrics.SERVING_SECONDS, 0.5, legend="p50"),
                        quantile(metrics.SERVING_SECONDS, 0.99, legend="p99"),
                        shared.BUDGET,
                    ),
                ),
                Panel(
                    "How far features are behind",
                    "Behind the accepted events: as decisions see it, and at the edge.",
                    (
                        value(metrics.SERVING_FEATURE_LAG_SECONDS, by="usecase", legend="decisions {{usecase}}"),
                        value(metrics.EDGE_LAG_SECONDS, by="usecase", legend="edge {{usecase}}"),
                        shared.FRESHNESS_BOUND,
                    ),
                ),
                Panel(
                    "Drifting variables",
                    "Beyond threshold and noise, in consecutive windows.",
                    (value(metrics.MONITOR_DRIFTED, by="usecase", how="sum"),),
                ),
                Panel(
                    "Quality on matured decisions",
                    "Of all arms together.",
                    (value(metrics.MONITOR_QUALITY, by="metric", where='arm="all"'),),
                ),
            ),
        ),
        Row("Error budgets and alerts", (replace(shared.BURNING, width=12), replace(shared.FIRING, width=12))),
        Row(
            "Processes",
            (
                Panel(
                    "Which parts answer",
                    "1 while Prometheus reaches it.",
                    (shared.UP,),
                    most=1,
                ),
                shared.MEMORY,
                shared.PROCESSORS,
                Panel(
                    "Restarts",
                    "Since the stack was started, by process; only those that were restarted. Native stacks alone.",
                    (value(metrics.SUPERVISOR_RESTARTS, by="process"),),
                ),
                Panel(
                    "What the world sends",
                    "The simulated world's events, by what came back.",
                    (rate(metrics.WORLD_EVENTS, by="outcome", unit="eps"),),
                ),
                Panel(
                    "The world against its schedule",
                    "How far the simulated world is behind: above a second the machine is too small for it.",
                    (value(metrics.WORLD_BEHIND_SECONDS, by="usecase"),),
                    warn=1,
                ),
            ),
        ),
    ),
)
