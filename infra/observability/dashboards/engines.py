"""Do Kafka and Spark keep up with what comes in?"""

from __future__ import annotations

from flywheel.contracts import metrics
from infra.observability.dashboards import objective_panels as shared
from infra.observability.dashboards.panels import Dashboard, Panel, Row, quantile, rate, value

_IN = Row(
    "Into Kafka",
    (
        Panel(
            "Events offered to ingest",
            "By what became of them; unavailable means that the broker did not acknowledge in time.",
            (rate(metrics.INGEST_EVENTS, by="outcome", unit="eps"),),
            kind="stacked",
        ),
        Panel(
            "Time until the broker has acknowledged",
            "From a request's arrival to its answer.",
            (
                quantile(metrics.INGEST_SECONDS, 0.5, legend="p50"),
                quantile(metrics.INGEST_SECONDS, 0.99, legend="p99"),
            ),
        ),
        Panel(
            "Sent and not acknowledged",
            "Events of ingest and decisions of serving that wait for the broker.",
            (
                value(metrics.INGEST_IN_FLIGHT, how="sum", legend="events"),
                value(metrics.SERVING_LOG_IN_FLIGHT, how="sum", legend="decisions"),
            ),
        ),
    ),
)
_OUT = Row(
    "Out of Kafka",
    (
        Panel(
            "Waiting for Spark",
            "Events in the broker that the stream has not processed.",
            (value(metrics.FEATURES_BACKLOG, by="stream"),),
        ),
        Panel(
            "How far streams are behind",
            "Wall clock, behind the accepted events.",
            (
                value(metrics.FEATURES_LAG_SECONDS, by="stream"),
                value(metrics.EDGE_LAG_SECONDS, legend="edge"),
            ),
        ),
        Panel(
            "Not read by the monitor",
            "Records.",
            (value(metrics.MONITOR_LAG, by="usecase"),),
        ),
    ),
)
_SPARK = Row(
    "Spark",
    (
        Panel(
            "Time of a micro-batch, median",
            "By stream.",
            (quantile(metrics.FEATURES_BATCH_SECONDS, 0.5, by="stream", legend="{{stream}}"),),
        ),
        Panel(
            "Time of a micro-batch, p95",
            "By stream. A batch of `tiles` that takes longer than the declared freshness makes features late.",
            (quantile(metrics.FEATURES_BATCH_SECONDS, 0.95, by="stream", legend="{{stream}}"),),
        ),
        Panel("Micro-batches", "By stream.", (rate(metrics.FEATURES_BATCH_SECONDS, by="stream"),)),
        Panel(
            "In the lake",
            "Events and decisions, duplicates included.",
            (value(metrics.FEATURES_ARCHIVED, by="event"),),
        ),
        Panel(
            "Dead letters",
            "Records of event topics that are no event, by whether their begin is kept.",
            (value(metrics.FEATURES_DEAD_LETTERS, by="kept", legend="kept: {{kept}}"),),
        ),
        Panel(
            "Of erased persons",
            "Events that the broker still held and that were not archived.",
            (value(metrics.FEATURES_ERASED, by="usecase"),),
        ),
    ),
)

DASHBOARD = Dashboard(
    "engines",
    "Flywheel · Kafka and Spark",
    "Do Kafka and Spark keep up with what comes in?",
    (_IN, _OUT, _SPARK, Row("Processes", (shared.MEMORY, shared.PROCESSORS))),
)
