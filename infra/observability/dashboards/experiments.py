"""Which model is better, and how is the new one doing?"""

from __future__ import annotations

from flywheel.contracts import metrics
from infra.observability.dashboards.panels import Dashboard, Panel, Row, rate, value

_ARMS = Row(
    "Champion and challenger",
    (
        Panel(
            "Decisions by arm",
            "By the arm that they were assigned to.",
            (rate(metrics.SERVING_DECISIONS, by="arm"),),
            kind="stacked",
        ),
        Panel(
            "Can the split be trusted?",
            "p-value of the sample-ratio check; below 0.001 the arms do not get the shares that are declared.",
            (value(metrics.MONITOR_SRM_P, by="usecase"),),
            warn=0.01,
            alarm=0.001,
            most=1,
        ),
        Panel(
            "Matured decisions by arm",
            "Few of them say little.",
            (value(metrics.MONITOR_MATURED, by="arm", where='arm!="all"'),),
        ),
        Panel(
            "AUC by arm",
            "On matured decisions.",
            (value(metrics.MONITOR_QUALITY, by="arm", where='arm!="all",metric="auc"'),),
        ),
        Panel(
            "Precision and recall by arm",
            "Of what was not simply approved.",
            (value(metrics.MONITOR_QUALITY, by="arm metric", where='arm!="all",metric=~"precision|recall"'),),
        ),
        Panel(
            "Money saved by arm",
            "In cents, against approving everything; arms of different size are compared in the console.",
            (value(metrics.MONITOR_SAVED_CENTS, by="arm", where='arm!="all"'),),
        ),
        Panel(
            "Fallbacks by arm",
            "Share of the arm's decisions that a rule or a fixed answer made and not its model.",
            (value(metrics.MONITOR_FALLBACK_SHARE, by="arm"),),
            most=1,
        ),
    ),
)
_ROLLOUT = Row(
    "Canary and withdrawn models",
    (
        Panel(
            "Decisions of the canary",
            "Since its step began.",
            (value(metrics.MONITOR_CANARY_DECISIONS, by="usecase"),),
        ),
        Panel(
            "Too late to be answered",
            "Requests since the canary's step began, by the arm of their unit; these are no decisions.",
            (value(metrics.MONITOR_CANARY_LATE, by="arm"),),
        ),
        Panel(
            "Steps of canaries",
            "Advanced, or rolled back.",
            (rate(metrics.MONITOR_ROLLOUT_STEPS, by="step"),),
        ),
        Panel(
            "Arms that serving stopped",
            "Because their model failed.",
            (rate(metrics.SERVING_ARMS_STOPPED, by="role"),),
        ),
    ),
)
_SHADOW = Row(
    "Shadow",
    (
        Panel(
            "Shadow's decisions",
            "Dropped ones are the price of never slowing an answer; lost ones were scored and not logged.",
            (
                rate(metrics.SERVING_SHADOW, by="outcome"),
                rate(metrics.SERVING_SHADOW_LOST, by="reason", legend="lost: {{reason}}"),
            ),
        ),
        Panel(
            "Would decide otherwise",
            "Share of decisions in which the shadow would have taken another action.",
            (value(metrics.MONITOR_SHADOW_OTHERWISE, by="usecase"),),
            most=1,
        ),
        Panel(
            "Scores against the served",
            "Population stability index of the shadow's scores.",
            (value(metrics.MONITOR_SHADOW_PSI, by="usecase"),),
            warn=0.1,
            alarm=0.2,
        ),
    ),
)

DASHBOARD = Dashboard(
    "experiments",
    "Flywheel · A/B",
    "Which model is better, and how is the new one doing?",
    (_ARMS, _ROLLOUT, _SHADOW),
)
