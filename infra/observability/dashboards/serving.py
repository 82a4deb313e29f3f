"""How fast and how surely are decisions made, and what stands in their way?"""

from __future__ import annotations

from flywheel.contracts import metrics
from infra.observability.dashboards import objective_panels as shared
from infra.observability.dashboards.panels import Dashboard, Panel, Query, Row, quantile, rate, share, value

_ANSWERS = Row(
    "Answers",
    (
        *shared.objective_numbers(6),
        Panel(
            "Decisions", "Answered, by action.", (rate(metrics.SERVING_DECISIONS, by="usecase action"),), kind="stacked"
        ),
        Panel(
            "Decided by a fallback",
            "By why the model did not decide as declared; nothing here is good.",
            (rate(metrics.SERVING_DECISIONS, by="fallback", where='fallback!="none"'),),
            kind="stacked",
        ),
        Panel(
            "Refused",
            "By gRPC status. INVALID_ARGUMENT is the caller's, DEADLINE_EXCEEDED means that time ran out.",
            (rate(metrics.SERVING_REFUSED, by="status"),),
            kind="stacked",
        ),
    ),
)
_TIME = Row(
    "Where the time goes",
    (
        Panel(
            "Time of a decision",
            "Inside the service, against the declared budget.",
            (
                *(quantile(metrics.SERVING_SECONDS, q, legend=f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)),
                shared.BUDGET,
            ),
        ),
        Panel(
            "Stages, p99",
            "Waiting for a turn, features, model, policy; `log` is the wait for the spool of durable decisions.",
            (quantile(metrics.SERVING_STAGE_SECONDS, 0.99, by="stage", legend="{{stage}}"),),
        ),
        Panel(
            "Explanations and inferences, p99",
            "Computing the contributions of one decision; a request for a model's scores alone.",
            (
                quantile(metrics.SERVING_EXPLANATION_SECONDS, 0.99, legend="explanation"),
                quantile(metrics.SERVING_INFERENCE_SECONDS, 0.99, legend="inference"),
            ),
        ),
    ),
)
_ADMISSION = Row(
    "Admission",
    (
        Panel(
            "Under way and allowed",
            "Admitted requests without an answer yet, and how many may be at once, as measured.",
            (
                value(metrics.SERVING_IN_FLIGHT, by="criticality", how="sum"),
                value(metrics.SERVING_ADMISSION_LIMIT, how="sum", legend="limit"),
            ),
        ),
        Panel(
            "Turned away",
            "Before anything was done for them. `sheddable` requests go first, by declaration.",
            (rate(metrics.SERVING_NOT_ADMITTED, by="criticality reason"),),
            kind="stacked",
        ),
        Panel(
            "Wait until a request is read",
            "On average; above some milliseconds the process has more to do than its core can.",
            (value(metrics.SERVING_LOOP_LAG_SECONDS, legend="wait"),),
            warn=0.005,
            alarm=0.02,
        ),
    ),
)
# Every process has the series, all but serving with 0.
_CERTIFICATE_DAYS = "min (flywheel_serving_certificate_days != 0) or max (flywheel_serving_certificate_days)"
_PARTS = Row(
    "What decisions depend on",
    (
        Panel(
            "Dependencies that are not asked",
            "1 while the breaker is open because it does not answer.",
            (value(metrics.SERVING_BREAKER_OPEN, by="dependency"),),
            alarm=1,
            most=1,
        ),
        Panel(
            "Model failures",
            "Deployments refused at loading, and scores that failed.",
            (rate(metrics.SERVING_MODEL_FAILURES, by="at"),),
        ),
        Panel(
            "Loaded models",
            "By role.",
            (value(metrics.SERVING_MODEL_LOADED, by="usecase role version"),),
            kind="table",
        ),
        Panel(
            "Models from the local copy",
            "1 while the deployment log cannot be followed.",
            (value(metrics.SERVING_MODELS_DEGRADED, by="usecase"),),
            alarm=1,
            most=1,
        ),
        Panel(
            "Certificate",
            "Days until it expires; 0 without TLS.",
            (Query(_CERTIFICATE_DAYS, "days", "d"),),
        ),
        Panel(
            "Workers that were lost",
            "They died, hung or did not end when told to; each was replaced.",
            (rate(metrics.SERVING_WORKERS_DIED, by="reason"),),
        ),
    ),
)
_EVIDENCE = Row(
    "Evidence: every answered decision is logged or counted as lost",
    (
        Panel(
            "Logged and lost",
            "Acknowledged by the broker, replayed from an earlier process's spool, lost by reason.",
            (
                rate(metrics.SERVING_LOG_ACKED, legend="logged"),
                rate(metrics.SERVING_LOG_REPLAYED, legend="replayed"),
                rate(metrics.SERVING_LOG_LOST, by="reason", legend="lost: {{reason}}"),
            ),
        ),
        Panel(
            "Not acknowledged yet",
            "Answered decisions that wait for the broker.",
            (value(metrics.SERVING_LOG_IN_FLIGHT, by="usecase", how="sum"),),
        ),
        Panel(
            "Spool",
            "Decisions on disk that the broker has not acknowledged; grows while the broker is away.",
            (value(metrics.SERVING_SPOOL_BYTES, by="usecase", how="sum"),),
        ),
        Panel(
            "Answered before they were on disk",
            "Decisions declared durable, by why they could not wait.",
            (rate(metrics.SERVING_LOG_UNPROTECTED, by="reason"),),
        ),
        Panel(
            "Explanations",
            "Asked for, by outcome.",
            (rate(metrics.SERVING_EXPLANATIONS, by="outcome"),),
            kind="stacked",
        ),
        Panel(
            "Corrupt feature states",
            "Refused as corrupt or not of this declaration; the rule decides.",
            (rate(metrics.SERVING_FOREIGN_STATES, by="usecase"),),
        ),
    ),
)
_OTHERS = Row(
    "Rankings and the Open Inference Protocol",
    (
        Panel(
            "Candidates of a ranking",
            "Median and 95th percentile.",
            (
                quantile(metrics.SERVING_RANKING_CANDIDATES, 0.5, legend="p50"),
                quantile(metrics.SERVING_RANKING_CANDIDATES, 0.95, legend="p95"),
            ),
        ),
        Panel(
            "Candidates not ranked",
            "By reason.",
            (rate(metrics.SERVING_RANKING_DROPPED, by="reason"),),
            kind="stacked",
        ),
        Panel(
            "Cached rows found",
            "Share of the rows of cached tables that did not have to be read.",
            (share(metrics.SERVING_CACHED_ROWS, 'outcome="hit"', by="entity"),),
            most=1,
        ),
        Panel(
            "Age of cached rows",
            "Of the oldest that the last decision used.",
            (value(metrics.SERVING_CACHED_AGE_SECONDS, by="entity"),),
        ),
        Panel(
            "Requests for scores",
            "By face and outcome.",
            (rate(metrics.SERVING_INFERENCES, by="face outcome"),),
            kind="stacked",
        ),
        Panel("Rows scored", "In such requests.", (rate(metrics.SERVING_INFERENCE_ROWS, by="usecase"),)),
    ),
)

DASHBOARD = Dashboard(
    "serving",
    "Flywheel · Serving",
    "How fast and how surely are decisions made, and what stands in their way?",
    (_ANSWERS, _TIME, _ADMISSION, _PARTS, _EVIDENCE, _OTHERS),
)
