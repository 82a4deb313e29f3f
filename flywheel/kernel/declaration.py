"""The one declaration of a machine-learning problem: every service reads it, nothing is written twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from flywheel.contracts.decisions import Step
from flywheel.contracts.events import Event
from flywheel.kernel.admission import Criticality
from flywheel.kernel.attributes import AttributeRead, AttributeTable, reads_of, tables_of
from flywheel.kernel.behaviour import behaviour_of
from flywheel.kernel.durations import parse_duration
from flywheel.kernel.features import (
    AttributeFeature,
    Entity,
    Feature,
    InvalidDeclaration,
    RequestFeature,
    WindowedFeature,
)
from flywheel.kernel.fields import REQUEST, REQUEST_TIME, numeric_fields
from flywheel.kernel.ranking import Ranking, check_ranking
from flywheel.kernel.rollout import Rollout
from flywheel.kernel.table_names import check_names


@dataclass(frozen=True)
class Label:
    """Where the truth comes from: an event that names the subject it is about.

    A subject without such an event `matures_after` its own event time is a negative, and stays one when an event
    comes later still: training and the measured quality count the same labels.
    """

    event: type[Event]
    joins: str
    """Field of the label event that holds the subject's `event_id`."""
    matures_after: str

    @property
    def maturity_us(self) -> int:
        return parse_duration(self.matures_after)


@dataclass(frozen=True)
class CostPolicy:
    """Chooses the action of least expected cost; amounts are in the unit of `amount_field`.

    Declining costs `decline_cost` of margin and goodwill as a share of the amount when the subject was good,
    stepping up costs `step_up_cost` outright and stops a bad subject with probability `step_up_catches`,
    approving a bad subject costs its amount and `loss_overhead`.
    """

    amount_field: str
    decline_cost_share: float
    decline_cost: float
    step_up_cost: float
    step_up_catches: float
    loss_overhead: float


@dataclass(frozen=True)
class LatencyBudget:
    """Milliseconds a decision may take, as a whole and by stage."""

    total_ms: float
    features_ms: float
    model_ms: float
    explain_ms: float = 25.0
    """On top of the total, for a caller who asks for the reasons of a score and has that much time."""


@dataclass(frozen=True)
class RuleScore:
    """The score used when the model or the features cannot be had: a rule on what is in the request alone.

    `score` gets the request's numeric fields by name and returns a probability.
    """

    name: str
    score: Callable[[Mapping[str, float]], float]


@dataclass(frozen=True)
class StaticAnswer:
    """The answer that needs nothing but itself. Without an `action` the policy chooses one at this score."""

    score: float = 0.5
    action: str = ""


@dataclass(frozen=True)
class Ladder:
    """How far down an answer goes when something is amiss: the step it is made on, by what happened.

    A step that fails gives way to the next below it: model, defaults, rule, static.
    """

    stale: Step = Step.MODEL
    """Features are stale. MODEL shows them to the model all the same, DEFAULTS shows it their defaults instead."""
    unavailable: Step = Step.RULE
    """Features cannot be had. DEFAULTS shows the model the declared defaults in their place."""
    no_model: Step = Step.RULE
    """There is no model, it failed, or there was no time for it."""
    static: StaticAnswer = StaticAnswer()


@dataclass(frozen=True)
class ReasonCode:
    """A sentence for people, given when a feature exceeds a bound."""

    code: str
    feature: str
    above: float


@dataclass(frozen=True)
class Experiment:
    """How traffic is split between champion and challenger.

    `unit` is the event field whose hash decides the arm, so that one card always meets the same model.
    """

    unit: str
    challenger_share: float


@dataclass(frozen=True)
class UseCase:
    """One machine-learning problem, whole."""

    name: str
    title: str
    events: tuple[type[Event], ...]
    request: type[Event]
    """The event about which a decision is made."""
    entities: tuple[Entity, ...]
    features: tuple[Feature, ...]
    label: Label
    policy: CostPolicy | Ranking
    """What is done with scores: the cheapest action about one subject, or the best of many candidates."""
    budget: LatencyBudget
    fallback: RuleScore
    reasons: tuple[ReasonCode, ...]
    experiment: Experiment
    lateness: str
    """Events that arrive later than this behind the newest are archived but no longer counted online."""
    freshness: str
    """Features further behind the accepted events than this (wall clock) are stale."""
    world: str = field(default="")
    """Import path of the module that simulates this problem, if there is one."""
    owner: str = ""
    """Who answers for the features that name nobody else."""
    criticality: Criticality = Criticality.DEFAULT
    """Whose requests are refused first when there are too many; a caller may declare its own to matter less."""
    durable_log: bool = False
    """Whether a decision is on this machine's disk before it is answered: for decisions that carry money."""
    rollout: Rollout | None = None
    """How a newly trained model takes over; None: at once, as soon as it has passed its gates."""
    ladder: Ladder = Ladder()
    """What answers in the model's place, and when."""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The model's inputs, in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def ranks(self) -> bool:
        """Whether it ranks candidates; else it chooses an action by its costs."""
        return isinstance(self.policy, Ranking)

    @property
    def costs(self) -> CostPolicy:
        """What actions cost. Raises InvalidDeclaration where the use case ranks: showing something has no such cost."""
        if isinstance(self.policy, CostPolicy):
            return self.policy
        raise InvalidDeclaration(f"{self.name} ranks candidates: what asks for the costs of actions does not apply")

    @property
    def windowed(self) -> tuple[WindowedFeature, ...]:
        return tuple(feature for feature in self.features if isinstance(feature, WindowedFeature))

    @property
    def attributes(self) -> tuple[AttributeFeature, ...]:
        return tuple(feature for feature in self.features if isinstance(feature, AttributeFeature))

    @property
    def retrieved(self) -> tuple[WindowedFeature | AttributeFeature, ...]:
        """All that is not computed at the request."""
        return (*self.windowed, *self.attributes)

    @cached_property
    def attribute_tables(self) -> tuple[AttributeTable, ...]:
        """The tables that the attributes are columns of."""
        return tables_of(self.attributes)

    @cached_property
    def attribute_reads(self) -> tuple[AttributeRead, ...]:
        """What a decision reads of them, entity by entity."""
        return reads_of(self.name, self.attribute_tables)

    @property
    def at_request(self) -> tuple[RequestFeature, ...]:
        return tuple(feature for feature in self.features if isinstance(feature, RequestFeature))

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change whenever the declared features do, or what one of them computes."""
        return _digest(self.features)

    @cached_property
    def windowed_fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with the windowed features alone: all that the stream fills."""
        return _digest(self.windowed)

    def event_named(self, name: str) -> type[Event]:
        """The event of that name; KeyError when there is none."""
        for event in self.events:
            if event.event_name == name:
                return event
        raise KeyError(name)


def _digest(features: Sequence[Feature]) -> str:
    text = "\n".join(_identity(feature) for feature in features)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _identity(feature: Feature) -> str:
    if isinstance(feature, RequestFeature):
        return f"{feature.name} <- {', '.join(feature.inputs)}: {behaviour_of(feature)}"
    if isinstance(feature, AttributeFeature):
        return (
            f"{feature.name} = {feature.table}.{feature.column} of {feature.entity.keys} read by "
            f"{feature.entity.request_keys} valid {feature.valid_us} default {feature.default}"
        )
    conditions = " and ".join(map(str, feature.conditions))
    return (
        f"{feature.name} = {feature.statistic} {feature.event.event_name}.{feature.field} by {feature.key_fields} "
        f"of {feature.entity.keys} read by {feature.entity.request_keys} where {conditions} rank {feature.rank} "
        f"half-life {feature.half_life_us} within {feature.bounds} "
        f"window {feature.window_us} step {feature.step_us} delay {feature.delay_us} default {feature.default}"
    )


def _check(usecase: UseCase) -> None:
    _check_kinds(usecase)
    names = usecase.feature_names
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InvalidDeclaration(f"{usecase.name}: declared twice: {', '.join(repeated)}")
    for event, what in ((usecase.request, "request"), (usecase.label.event, "label")):
        if event not in usecase.events:
            raise InvalidDeclaration(f"{usecase.name}: the {what} event {event.__name__} is not among its events")
    for where, event, name in (
        ("label.joins", usecase.label.event, usecase.label.joins),
        ("experiment.unit", usecase.request, usecase.experiment.unit),
        *((f"entity {e.name}", usecase.request, name) for e in usecase.entities for name in e.request_keys),
    ):
        if name not in event.model_fields:
            raise InvalidDeclaration(f"{usecase.name}: {where} names {name!r}, which {event.__name__} does not have")
    _check_policy(usecase)
    _check_inputs(usecase)
    _check_tables(usecase)
    _check_shares(usecase)
    for reason in usecase.reasons:
        if reason.feature not in names:
            raise InvalidDeclaration(
                f"{usecase.name}: reason {reason.code!r} reads {reason.feature!r}, which is not a feature"
            )
    budget = usecase.budget
    if budget.features_ms + budget.model_ms > budget.total_ms:
        raise InvalidDeclaration(
            f"{usecase.name}: the stages of the latency budget exceed its total of {budget.total_ms} ms"
        )
    _check_ladder(usecase)
    parse_duration(usecase.lateness)
    parse_duration(usecase.freshness)


def _check_policy(usecase: UseCase) -> None:
    policy = usecase.policy
    if isinstance(policy, Ranking):
        check_ranking(usecase.name, policy, usecase.request, usecase.feature_names)
    elif policy.amount_field not in usecase.request.model_fields:
        raise InvalidDeclaration(
            f"{usecase.name}: policy.amount_field names {policy.amount_field!r}, "
            f"which {usecase.request.__name__} does not have"
        )


def _check_shares(usecase: UseCase) -> None:
    share = usecase.experiment.challenger_share
    if not 0 <= share <= 1:
        raise InvalidDeclaration(f"{usecase.name}: a challenger's share of {share:g} is not within 0 and 1")
    if usecase.rollout is None:
        return
    if share + usecase.rollout.widest > 1:
        raise InvalidDeclaration(
            f"{usecase.name}: challenger and canary would take {share + usecase.rollout.widest:.0%} of the units"
        )
    # The policies' module reads this one.
    from flywheel.kernel.policy import Action

    known = () if usecase.ranks else tuple(Action)
    for rail in usecase.rollout.guardrails:
        if rail.action not in known:
            raise InvalidDeclaration(
                f"{usecase.name}: a guardrail is about {rail.action!r}; actions: {', '.join(known) or 'none'}"
            )


def _check_ladder(usecase: UseCase) -> None:
    ladder = usecase.ladder
    if ladder.unavailable is Step.MODEL:
        raise InvalidDeclaration(
            f"{usecase.name}: the model cannot be shown features that are unavailable; say Step.DEFAULTS to show it "
            "their defaults, Step.RULE or Step.STATIC"
        )
    if ladder.no_model not in (Step.RULE, Step.STATIC):
        raise InvalidDeclaration(f"{usecase.name}: without a model there is Step.RULE or Step.STATIC, nothing else")
    if not 0 <= ladder.static.score <= 1:
        raise InvalidDeclaration(f"{usecase.name}: the static score {ladder.static.score} is no probability")


def _check_kinds(usecase: UseCase) -> None:
    """Each word gives several features at once, so it stands in the list with a star."""
    for place, feature in enumerate(usecase.features, 1):
        if not isinstance(feature, WindowedFeature | AttributeFeature | RequestFeature):
            raise InvalidDeclaration(
                f"{usecase.name}: number {place} of its features is {type(feature).__name__} and no feature; "
                "write a star before it, as in *count(…).by(…).over(…), and end it with .over(…) or .valid_for(…)"
            )


def _check_tables(usecase: UseCase) -> None:
    taken = {entity.name for entity in usecase.entities} | {event.event_name for event in usecase.events}
    for table in usecase.attribute_tables:
        if table.name in taken:
            raise InvalidDeclaration(
                f"{usecase.name}: the table {table.name!r} has the name of an entity or event; give it another"
            )
        if clash := set(table.columns) & {*table.entity.keys}:
            raise InvalidDeclaration(f"{usecase.name}: {', '.join(clash)} is a key of {table.name!r} and no attribute")
    check_names(usecase.name, usecase.attribute_tables, usecase.entities, usecase.request, usecase.feature_names)


def _check_inputs(usecase: UseCase) -> None:
    known = {REQUEST_TIME, *(REQUEST + name for name in numeric_fields(usecase.request))}
    for feature in usecase.features:
        if isinstance(feature, RequestFeature):
            for name in feature.inputs:
                if name not in known:
                    raise InvalidDeclaration(
                        f"{usecase.name}: {feature.name} reads {name!r}, which is neither a numeric field of "
                        "the request nor a feature declared before it"
                    )
        elif isinstance(feature, WindowedFeature) and feature.event not in usecase.events:
            raise InvalidDeclaration(
                f"{usecase.name}: {feature.name} counts {feature.event.__name__}, which is not among its events"
            )
        elif feature.entity not in usecase.entities:
            raise InvalidDeclaration(
                f"{usecase.name}: {feature.name} is about {feature.entity.name!r}, which is not among its entities"
            )
        known.add(feature.name)
