"""Service level objectives: what share of requests must be good, over which windows it is measured, when that alarms.

Each objective is two PromQL expressions over counters, by use case: requests that count, and those of them that were
bad. They follow from the declarations: a new use case has the same objectives at its own budget.
"""

from __future__ import annotations

from dataclasses import dataclass

from flywheel.kernel import catalog
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.durations import parse_duration

PERIOD_DAYS = 30
"""The error budget is for so many days."""
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


@dataclass(frozen=True)
class Burn:
    """An alarm: the error budget burns that many times as fast as it may, over both windows.

    The long window says that it matters, the short one that it still goes on.
    """

    severity: str
    long: str
    short: str
    factor: float


# Two per cent of the month's budget in an hour, five in six hours, ten in a day, ten in three days: the pairs of the
# Site Reliability Workbook (chapter 5).
BURNS = (
    Burn("page", "1h", "5m", 14.4),
    Burn("page", "6h", "30m", 6),
    Burn("ticket", "1d", "2h", 3),
    Burn("ticket", "3d", "6h", 1),
)


@dataclass(frozen=True)
class Objective:
    """`share` of the requests of `total` are not among the `bad` ones; both say `[window]` in place of a
    range such as `[5m]`."""

    name: str
    alert: str
    meaning: str
    share: float
    bad: str
    total: str

    @property
    def error_budget(self) -> float:
        """The share that may be bad."""
        return round(1 - self.share, 9)


_ANSWERED = "rate(flywheel_serving_decisions_total[window])"
# What may wait is refused first, by declaration: that is no failure.
_TURNED_AWAY = (
    'rate(flywheel_serving_not_admitted_total{criticality!="sheddable",reason=~"limit|priority|deadline"}[window])'
)
_BROKEN = 'rate(flywheel_serving_refused_total{status=~"INTERNAL|UNAVAILABLE|UNKNOWN"}[window])'
_TOO_LATE = 'rate(flywheel_serving_refused_total{status="DEADLINE_EXCEEDED"}[window])'
_TIMED = "rate(flywheel_serving_decision_seconds_count[window])"
_BY_FALLBACK = 'rate(flywheel_serving_decisions_total{fallback!="none"}[window])'
_READ = "rate(flywheel_serving_feature_status_total[window])"
_STALE = 'rate(flywheel_serving_feature_status_total{status="stale"}[window])'


def objectives() -> tuple[Objective, ...]:
    """All objectives, each over every use case."""
    return (
        Objective(
            name="availability",
            alert="Availability",
            meaning="requests that were answered, neither turned away nor failed",
            share=0.999,
            bad=f"sum by (usecase) ({_TURNED_AWAY} or {_BROKEN})",
            total=f"sum by (usecase) ({_ANSWERED} or {_TURNED_AWAY} or {_BROKEN})",
        ),
        Objective(
            name="latency",
            alert="Latency",
            meaning="decisions that were made within the declared budget; those given up for want of time are not",
            share=0.99,
            bad=f"(sum by (usecase) ({_TIMED} or {_TOO_LATE}) - sum by (usecase) ({_in_budget()}))",
            total=f"sum by (usecase) ({_TIMED} or {_TOO_LATE})",
        ),
        Objective(
            name="as_declared",
            alert="Fallback",
            meaning="decisions made by model and features as declared, not by a fallback",
            share=0.99,
            bad=_or_none(_BY_FALLBACK, _ANSWERED),
            total=f"sum by (usecase) ({_ANSWERED})",
        ),
        Objective(
            name="freshness",
            alert="Freshness",
            meaning="reads of features that were not behind by more than is declared",
            share=0.99,
            bad=_or_none(_STALE, _READ),
            total=f"sum by (usecase) ({_READ})",
        ),
    )


def _in_budget() -> str:
    """Decisions no slower than the budget of their own use case."""
    return " or ".join(
        f'rate(flywheel_serving_decision_seconds_bucket{{usecase="{usecase.name}",le="{budget_s(usecase)}"}}[window])'
        for usecase in usecases()
    )


def _or_none(bad: str, total: str) -> str:
    """Zero, not nothing, where no request has been bad yet."""
    return f"(sum by (usecase) ({bad}) or 0 * sum by (usecase) ({total}))"


def usecases() -> tuple[UseCase, ...]:
    """Every declared use case."""
    return tuple(catalog.load(name) for name in catalog.names())


def budget_s(usecase: UseCase) -> float:
    """The declared latency budget of a decision, seconds."""
    return usecase.budget.total_ms / 1_000


def freshness_s(usecase: UseCase) -> float:
    """How far features may be behind, seconds."""
    return parse_duration(usecase.freshness) / 1e6
