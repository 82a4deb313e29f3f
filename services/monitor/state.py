"""What the console shows, as one typed document. Times are UTC, money is in the unit of the amounts (cents)."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

from flywheel.contracts.events import Utc
from flywheel.kernel import experiment


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


Measure = Annotated[float | None, BeforeValidator(_known)]
"""A number, or null where nothing can be said yet."""


class Part(BaseModel):
    """A part of the state: immutable."""

    model_config = ConfigDict(frozen=True)


class Interval(Part):
    """An estimate with the bounds of its 95 % confidence interval."""

    estimate: Measure
    low: Measure
    high: Measure

    @classmethod
    def of(cls, interval: experiment.Interval, scale: float = 1.0) -> Interval:
        return cls(estimate=interval.estimate * scale, low=interval.low * scale, high=interval.high * scale)


class Loop(Part):
    """How far the loop is, and whether the monitor keeps up."""

    event_time: Utc | None
    """The newest time of an accepted event."""
    events: int
    """Request events the broker has accepted, redelivered ones included."""
    decisions: int
    """Distinct decisions read."""
    labels: int
    repeats: int
    """Decisions about an event that was decided before."""
    unreadable: int
    lag_records: int | None
    catching_up: bool
    decisions_per_second: Measure
    fallback_share: Measure = None
    """Of the newest decisions, as far as they were made within the last minute, those not made as declared."""
    fallback_step: str | None = None
    """The step of the ladder that most of those were made by; None where there are none or none tells."""
    broker_answers: bool
    restarts: dict[str, int]


class Evidence(Part):
    """The decisions that serving answered: answered = logged + lost + under way + unexplained.

    By the numbers that serving gives them; older records have none and are left out.
    """

    answered: int
    logged: int
    lost: int
    under_way: int
    unexplained: int
    repeats: int
    writers: int


class DeployedModel(Part):
    """What serves now."""

    champion: str
    challenger: str | None
    challenger_share: float
    algorithm: str
    trained_until: Utc
    deployed_at: Utc
    deployed_by: str
    reason: str
    metrics: dict[str, Measure]
    canary: str | None = None
    canary_share: float = 0.0
    shadow: str | None = None
    withdrawn: str | None = None
    """The version that this deployment took away from traffic."""


class Canary(Part):
    """The canary's present step. It may take the next once both numbers, of decisions and of seconds, are reached."""

    version: str
    share: float
    next_share: float
    decisions: int
    decisions_needed: int
    lasted_s: float
    lasts_s: float
    judged: bool
    """Whether this monitor advances it or takes it back."""
    judged_decisions: int = 0
    """It was last judged at so many decisions of this step; 0 before the first time."""
    crossed: str | None = None
    """Why it is to go, for as long as that could not be written into the deployment log."""
    fallback_share: Measure = None
    """Of the answers to its units in this step, those that another than its model gave."""
    champion_fallback_share: Measure = None
    late: int = 0
    """Requests of its units in this step whose answer came too late to be given."""
    champion_late: int = 0


class ShadowSeen(Part):
    """The shadow's newest scores against those that were answered with."""

    version: str
    decisions: int
    otherwise_share: Measure = None
    """Of these decisions, those in which another action would have been taken."""
    mean_difference: Measure = None
    """Shadow minus served."""
    mean_distance: Measure = None
    psi: Measure = None
    psi_noise: Measure = None


class MixPoint(Part):
    """Decisions of one slice of wall-clock time."""

    at: Utc
    approved: int
    stepped_up: int
    declined: int
    fallback: int


class Mix(Part):
    """What was decided: the newest decisions, and slices of `slice_s` seconds before now."""

    decisions: int
    approved: Measure
    stepped_up: Measure
    declined: Measure
    fallback: Measure
    slice_s: int
    series: tuple[MixPoint, ...]


class Stage(Part):
    """Duration of one stage of a decision, milliseconds, and what is declared for it."""

    name: str
    p50_ms: Measure
    p95_ms: Measure
    p99_ms: Measure
    budget_ms: float | None


class Freshness(Part):
    """How far features were behind the accepted events when a decision was made."""

    lag_p50_ms: Measure
    lag_p99_ms: Measure
    bound_ms: float
    event_clock_speed: Measure
    """Event time that passes in a second of wall clock, as the newest decisions show it; about 1 in real time."""
    lag_p50_event_s: Measure
    """The median lag in seconds of event time."""
    statuses: dict[str, dict[str, int]]
    """Decisions by status, for each entity view and each table of attributes."""
    load_age_p50_ms: dict[str, float]
    """By table, the median age of the loads that decisions read, in event time; of those alone that found one."""


class Variable(Part):
    """One variable against the training reference. `drifted`: exceeded in consecutive windows."""

    name: str
    psi: Measure
    noise: Measure
    exceeds: bool
    drifted: bool
    follows_calendar: bool
    """Made of the time alone: a window shorter than the calendar's period always differs, so it never alarms."""


class ScoreBins(Part):
    """Shares of the champion's scores by bin of its reference; `edges` are the inner cut points."""

    edges: tuple[float, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]


class Drift(Part):
    """The newest decisions against the champion's training reference."""

    decisions: int
    decisions_needed: int
    threshold: float
    alarm_windows: int
    score: Variable | None
    variables: tuple[Variable, ...]
    score_bins: ScoreBins | None


class Quality(Part):
    """Decisions whose truth is known against that truth. `saved_cents`: against approving everything.

    `precision` and `recall` are of decisions that were not simply approved, `decline_precision` of declined ones.
    """

    decisions: int
    positives: int
    precision: Measure
    recall: Measure
    decline_precision: Measure
    auc: Measure
    average_precision: Measure
    saved_cents: Measure
    saved_share: Measure
    """Of what approving everything would have lost."""


class DayQuality(Quality):
    """Quality of the decisions about one day of event time."""

    day: str


class Maturity(Part):
    """How much of the truth is known."""

    matures_after_s: float
    waiting: int
    reported_early: int
    """Positives already reported among those that wait."""
    next_at: Utc | None
    """Event time at which the oldest waiting decision matures."""
    forgotten_early: int
    """Decisions that had to make room for newer ones before they matured, and so are never measured."""
    advice: str | None
    """What to set so that decisions can mature, where they cannot."""


class Arm(Part):
    """One arm of the experiment. `precision` and `recall` are of decisions that were not simply approved."""

    role: str
    version: str
    decisions: int
    units: int
    matured: int
    positives: int
    precision: Interval
    recall: Interval
    auc: Measure
    average_precision: Measure
    saved_per_1000: Interval
    fallback_share: Measure = None
    """Of its decisions, those that a fallback made and not its model. They stay with the arm all the same."""


class Comparison(Part):
    """Champion against challenger since the current deployment."""

    unit: str
    challenger_share_declared: float
    challenger_share_seen: Measure
    sample_ratio_p: Measure
    """Null below `units_least` units, where a few of them decide it."""
    units_least: int
    matured_least: int
    """Below so many matured decisions an arm's measures are more chance than measure."""
    arms: tuple[Arm, ...]
    difference_per_1000: Interval | None
    """Money saved per 1,000 decisions, challenger minus champion."""
    p_value: Measure
    verdict: str


class RecentDecision(Part):
    """A decision as it is listed. The unit is a keyed hash."""

    decided_at: Utc
    event_time: Utc
    unit: str
    amount: float
    score: float
    action: str
    reasons: tuple[str, ...]
    arm: str
    model_version: str
    fallback: str
    total_ms: Measure


class Gate(Part):
    name: str
    passed: bool
    value: Measure
    demand: str


class TrainingRun(Part):
    """How a training run ended."""

    finished_at: Utc
    version: str | None
    deployed: bool
    gates: tuple[Gate, ...]
    error: str | None


class Retraining(Part):
    """Whether the monitor asks for new models, and when it last did."""

    enabled: bool
    at_most_every_minutes: float
    last_requested_at: Utc | None
    last_reason: str | None


class ParityFeature(Part):
    """A feature that was served otherwise than recomputed: how often, how much, and where it was furthest apart.

    A number that is none, or infinite, is null.
    """

    name: str
    mismatches: int
    worst_absolute: Measure
    worst_relative: Measure
    event_id: str
    decided_at: Utc
    online: Measure
    offline: Measure


class Parity(Part):
    """Windowed features of sampled decisions, as served, against the same features recomputed from the archive."""

    since: Utc
    until: Utc
    decisions: int
    values: int
    mismatches: int
    mismatched_share: float
    tolerated_share: float
    """A model is promoted only while the share of mismatches is no larger."""
    undecidable: int
    stale_values: int
    stale_mismatches: int
    skipped: dict[str, int]
    """Decisions that there was nothing to compare of, by reason."""
    features: tuple[ParityFeature, ...]


class State(Part):
    """Everything the console shows."""

    usecase: str
    title: str
    simulated: bool
    generated_at: Utc
    loop: Loop
    evidence: Evidence
    model: DeployedModel | None
    mix: Mix
    stages: tuple[Stage, ...]
    freshness: Freshness
    parity: Parity | None
    """None before the first comparison."""
    drift: Drift
    maturity: Maturity
    quality: Quality
    quality_by_day: tuple[DayQuality, ...]
    experiment: Comparison | None
    canary: Canary | None = None
    shadow: ShadowSeen | None = None
    last_decisions: tuple[RecentDecision, ...]
    training_runs: tuple[TrainingRun, ...]
    retraining: Retraining
