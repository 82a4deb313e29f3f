"""Are features fresh, complete, and the same online as offline?"""

from __future__ import annotations

from flywheel.contracts import metrics
from infra.observability.dashboards import objective_panels as shared
from infra.observability.dashboards.panels import Dashboard, Panel, Row, quantile, rate, share, value

_FRESH = Row(
    "Freshness",
    (
        Panel(
            "As decisions see it",
            "How far the features of the last decision were behind the accepted events.",
            (value(metrics.SERVING_FEATURE_LAG_SECONDS, by="usecase"), shared.FRESHNESS_BOUND),
        ),
        Panel(
            "The edge",
            "How far the newest events, put on the edges of their entities, are behind.",
            (value(metrics.EDGE_LAG_SECONDS, by="usecase"), shared.FRESHNESS_BOUND),
        ),
        Panel(
            "The streams",
            "How far each is behind the accepted events. The edge makes up for that of `tiles`.",
            (value(metrics.FEATURES_LAG_SECONDS, by="stream"),),
        ),
        Panel(
            "Status of what decisions read",
            "By source: an entity's windows, or a table of attributes.",
            (rate(metrics.SERVING_FEATURE_STATUS, by="source status"),),
            kind="stacked",
        ),
        Panel(
            "Not fresh",
            "Share of reads that were stale, missing or unavailable. Missing is what nobody has seen before.",
            (
                share(metrics.SERVING_FEATURE_STATUS, 'status="stale"', by="source", legend="stale {{source}}"),
                share(metrics.SERVING_FEATURE_STATUS, 'status="missing"', by="source", legend="missing {{source}}"),
                share(
                    metrics.SERVING_FEATURE_STATUS, 'status="unavailable"', by="source", legend="unavailable {{source}}"
                ),
            ),
            most=1,
        ),
        Panel(
            "Age of loaded attributes",
            "Of the table's load that the last decision found, in event time.",
            (value(metrics.SERVING_ATTRIBUTE_AGE_SECONDS, by="table"),),
        ),
    ),
)
_EDGE = Row(
    "The edge: events counted ahead of the stream",
    (
        Panel(
            "Events put on edges",
            "And those too late to be counted, or no event at all.",
            (
                rate(metrics.EDGE_EVENTS, legend="put on edges", unit="eps"),
                rate(metrics.EDGE_LATE, legend="too late", unit="eps"),
                rate(metrics.EDGE_UNPARSABLE, legend="no event", unit="eps"),
            ),
        ),
        Panel(
            "Longest edge",
            "Events on the longest of the last write; bounded by what is absorbed into the state.",
            (value(metrics.EDGE_LARGEST, by="view"),),
        ),
        Panel(
            "Absorbed and forgotten",
            "Events taken into their state without waiting for the stream; entities that no feature can see any more.",
            (
                rate(metrics.EDGE_ABSORBED, by="view", legend="absorbed {{view}}", unit="eps"),
                rate(metrics.EDGE_FORGOTTEN, legend="forgotten"),
            ),
        ),
    ),
)
_COUNTED = Row(
    "The online store",
    (
        Panel("Events counted", "Distinct, by view.", (value(metrics.FEATURES_EVENTS, by="view"),)),
        Panel(
            "Not counted",
            "Too late to be counted online, and records that are no event.",
            (
                rate(metrics.FEATURES_LATE, legend="too late", unit="eps"),
                rate(metrics.FEATURES_UNPARSABLE, legend="no event", unit="eps"),
            ),
        ),
        Panel(
            "States found corrupt",
            "Each starts again from nothing.",
            (rate(metrics.FEATURES_FOREIGN_STATES, by="view"),),
        ),
    ),
)
_PARITY = Row(
    "Parity: served as recomputed from the archive",
    (
        Panel(
            "Sampled decisions",
            "By what became of their comparison.",
            (rate(metrics.PARITY_DECISIONS, by="outcome"),),
            kind="stacked",
        ),
        Panel(
            "Compared values",
            "Equal or not; undecidable where an event arrived just when the decision was made.",
            (rate(metrics.PARITY_VALUES, by="outcome"),),
            kind="stacked",
        ),
        Panel(
            "Mismatched values",
            "Share of the values that could be judged.",
            (share(metrics.PARITY_VALUES, 'outcome=~".*mismatched"', by="usecase"),),
            warn=0.0005,
            alarm=0.001,
        ),
        Panel(
            "Mismatches by feature",
            "Values served otherwise than recomputed.",
            (rate(metrics.PARITY_MISMATCHES, by="feature"),),
        ),
        Panel(
            "Worst difference",
            "Relative to the larger of the two values.",
            (value(metrics.PARITY_WORST, by="feature"),),
        ),
        Panel(
            "Time of a comparison",
            "Of one sample; the archive is read for it.",
            (quantile(metrics.PARITY_SECONDS, 0.95),),
        ),
    ),
)

DASHBOARD = Dashboard(
    "features",
    "Flywheel · Features and freshness",
    "Are features fresh, complete, and the same online as offline?",
    (_FRESH, _EDGE, _COUNTED, _PARITY),
)
