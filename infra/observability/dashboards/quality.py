"""Do the inputs still look like those of training, and are decisions still good?"""

from __future__ import annotations

from flywheel.contracts import metrics
from infra.observability.dashboards.panels import Dashboard, Panel, Query, Row, rate, value

_DRIFT = Row(
    "Drift against the training reference",
    (
        Panel(
            "Drifting variables",
            "1 while a variable is beyond threshold and noise in consecutive windows.",
            (value(metrics.MONITOR_DRIFTED, by="variable"),),
            kind="table",
            alarm=1,
        ),
        Panel(
            "The ten largest PSI",
            "Population stability index. What sampling alone explains is beside it: below that it says nothing.",
            (Query('topk(10, max by (variable) (flywheel_monitor_psi{usecase=~"$usecase"}))', "{{variable}}", "none"),),
            warn=0.1,
            alarm=0.2,
        ),
        Panel(
            "PSI beyond noise",
            "PSI minus what sampling explains at 99.9 %; above zero something changed.",
            (
                Query(
                    'topk(10, max by (variable) (flywheel_monitor_psi{usecase=~"$usecase"} '
                    '- flywheel_monitor_psi_noise{usecase=~"$usecase"}))',
                    "{{variable}}",
                    "none",
                ),
            ),
            warn=0,
        ),
    ),
)
_QUALITY = Row(
    "Quality on decisions whose truth is known",
    (
        Panel(
            "Quality",
            "Precision and recall of what was not simply approved; AUC and average precision of the score.",
            (value(metrics.MONITOR_QUALITY, by="metric", where='arm="all"'),),
            most=1,
        ),
        Panel(
            "Money saved",
            "In cents, against approving everything.",
            (value(metrics.MONITOR_SAVED_CENTS, by="usecase", where='arm="all"'),),
        ),
        Panel(
            "Matured decisions",
            "Whose truth is known, in the window that is measured.",
            (value(metrics.MONITOR_MATURED, by="usecase", where='arm="all"'),),
        ),
    ),
)
_EVIDENCE = Row(
    "Evidence and retraining",
    (
        Panel(
            "What became of answered decisions",
            "answered = logged + lost + under way + unexplained.",
            (value(metrics.MONITOR_ANSWERED, by="outcome"),),
            kind="table",
        ),
        Panel(
            "Training runs",
            "In the last day, by outcome.",
            (
                Query(
                    'sum by (outcome) (increase(flywheel_trainer_runs_total{usecase=~"$usecase"}[1d]))', "{{outcome}}"
                ),
            ),
        ),
        Panel(
            "The last training",
            "How long it took.",
            (value(metrics.TRAINER_SECONDS, by="usecase"),),
        ),
        Panel("Rows of the last training", "Of its training set.", (value(metrics.TRAINER_ROWS, by="usecase"),)),
        Panel(
            "Unread by the monitor",
            "Records; while it catches up its numbers are old.",
            (value(metrics.MONITOR_LAG, by="usecase"),),
        ),
        Panel(
            "Actions",
            "As the world saw them: a change here is a change of policy, score or traffic.",
            (rate(metrics.WORLD_DECISIONS, by="action"),),
            kind="stacked",
        ),
    ),
)

DASHBOARD = Dashboard(
    "quality",
    "Flywheel · Drift and quality",
    "Do the inputs still look like those of training, and are decisions still good?",
    (_DRIFT, _QUALITY, _EVIDENCE),
)
