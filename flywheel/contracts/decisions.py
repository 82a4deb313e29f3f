"""A decision as it was answered: what the monitor, the trainer and an auditor read later."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from flywheel.contracts.events import Utc
from flywheel.contracts.messages import Message

MODEL_RUN = "model_run"
"""In `stage_ms`, what the decision's own model took, where several models ran in the stage `model`."""


class FeatureStatus(StrEnum):
    """How far the features of a decision can be trusted.

    `fresh`: everything accepted up to a moment ago is counted. `stale`: the store is behind its declared bound, has
    lost events of the entity, or the request is so late behind the entity's newest event that part of its windows is
    gone; or its time is not the stream's: further behind the newest event of all than the declared lateness, where
    those who came no more are forgotten, or that far ahead of a world that is played; of a table, its load is no longer
    valid at the request's time, or not yet: values are the declared defaults.
    `missing`: the store has nothing for the entity (an unseen card), values are the declared defaults.
    `unavailable`: the store did not answer in time, holds something foreign, or nothing while nobody knows how far it
    is, as after it was lost.
    """

    FRESH = "fresh"
    STALE = "stale"
    MISSING = "missing"
    UNAVAILABLE = "unavailable"


class Fallback(StrEnum):
    """Why a decision was not made by the model on what it reads, if it was not."""

    NONE = "none"
    FEATURES_STALE = "features_stale"
    FEATURES_UNAVAILABLE = "features_unavailable"
    MODEL_UNAVAILABLE = "model_unavailable"
    DEADLINE = "deadline"


class Step(StrEnum):
    """Which step of the declared ladder gave the score.

    `model`: the model, on what was read. `defaults`: the model, with the declared defaults in the place of what could
    not be read. `rule`: the declared rule, on the request alone. `static`: the declared answer that needs nothing.
    """

    MODEL = "model"
    DEFAULTS = "defaults"
    RULE = "rule"
    STATIC = "static"

    @property
    def is_by_model(self) -> bool:
        """Whether a model gives the score on this step."""
        return self in (Step.MODEL, Step.DEFAULTS)

    def or_lower(self, other: Step) -> Step:
        """The lower one of the two.

        >>> Step.DEFAULTS.or_lower(Step.RULE)
        <Step.RULE: 'rule'>
        """
        order = list(Step)
        return max(self, other, key=order.index)


class DecisionLogged(Message):
    """One answered decision.

    `features` are in the order of the model manifest's `feature_names`; where the store was unavailable only those
    that the request alone gives are there, unless the model was shown defaults. A value that is NaN to the model is
    NaN here.
    """

    decision_id: str
    request_id: str
    usecase: str
    event_id: str
    event_time: Utc
    decided_at: Utc
    unit: str
    """The entity by which traffic is split (the card), as in the event."""
    arm: str
    model_version: str
    score: float
    action: str
    reasons: tuple[str, ...]
    fallback: Fallback
    feature_names: tuple[str, ...]
    features: tuple[float, ...]
    feature_status: dict[str, FeatureStatus]
    """Of windows by entity, of loaded attributes by table."""
    feature_lag_ms: float
    """How far behind the accepted events the feature store was, at most; -1 when unknown."""
    feature_age_ms: dict[str, float] = Field(default_factory=dict)
    """By table, how old its entity's load was at the time of the event; negative for one that is as of later."""
    stage_ms: dict[str, float]
    value: float
    """What the decision is about in money: the payment's amount, in cents."""
    step: Step | None = None
    """None in records from before there was a ladder."""
    propensity: float | None = None
    """How probable this arm was for the unit when it was assigned."""
    criticality: str = ""
    writer: str = ""
    """The process that answered it; empty in records from before they were counted."""
    sequence: int = 0
    """The how manieth decision of its writer it is, from 1 on."""
    lost_before: int = 0
    """How many of its writer's decisions were known to be lost by then."""


class Unanswered(Message):
    """Requests of one moment and arm whose answer came too late to be given: what a judge of that arm has to know.

    Where nothing could be told for long, those of moments too old to be kept are among the newest moment's.
    """

    arm: str
    model_version: str
    """Of what gave the score that came too late."""
    fallback: Fallback
    decided_at: Utc
    """When the process began with them, as it is said of decisions."""
    model_ms: float | None = None
    """What the arm's model took, if it was run."""
    requests: int


class Numbered(Message):
    """What every record of a decision log says of its place in it, whatever it is about."""

    decided_at: Utc
    writer: str = ""
    sequence: int = 0
    lost_before: int = 0
    unanswered: tuple[Unanswered, ...] = ()
    """What its writer had no answer for in time since the record before."""
