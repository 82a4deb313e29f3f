"""A ranking as it was answered: one record, of which each candidate that was shown can be read as a decision."""

from __future__ import annotations

from collections.abc import Iterator

from flywheel.contracts.decisions import DecisionLogged, Fallback, FeatureStatus, Step
from flywheel.contracts.events import Utc
from flywheel.contracts.messages import Message

SHOW = "show"
"""What was done with a candidate, where a decision names its action."""


def impression_id(event_id: str, candidate: str) -> str:
    """The `event_id` of the request event about one candidate of a ranking.

    >>> impression_id("visit-7", "item-3")
    'visit-7:item-3'
    """
    return f"{event_id}:{candidate}"


class RankingLogged(Message):
    """One answered ranking. What is said of candidates is said of those that were shown, best position first."""

    decision_id: str
    request_id: str
    usecase: str
    event_id: str
    event_time: Utc
    decided_at: Utc
    unit: str
    """The entity by which traffic is split, as in the event."""
    arm: str
    propensity: float
    """How probable this arm was for the unit when it was assigned."""
    model_version: str
    fallback: Fallback
    step: Step
    criticality: str = ""
    offered: int
    """How many candidates there were to choose from."""
    dropped: dict[str, int]
    """How many of them were dropped, by reason."""
    shown: tuple[str, ...]
    scores: tuple[float, ...]
    propensities: tuple[float, ...]
    """How probable each candidate was at its position, given those before it."""
    feature_names: tuple[str, ...]
    features: tuple[tuple[float, ...], ...]
    """A row for each candidate that was shown; NaN is what the model saw as NaN."""
    sources: tuple[str, ...]
    """What features are read from: entities with windows, then tables of attributes."""
    statuses: tuple[tuple[FeatureStatus, ...], ...]
    """By candidate and source."""
    tables: tuple[str, ...]
    ages_ms: tuple[tuple[float | None, ...], ...]
    """By candidate and table, how old the load was at the time of the event; None where nothing is loaded."""
    feature_lag_ms: float
    stage_ms: dict[str, float]
    writer: str = ""
    """The process that answered it; it numbers its records from 1 on and says how many were lost before."""
    sequence: int = 0
    lost_before: int = 0

    def decisions(self) -> Iterator[DecisionLogged]:
        """Each candidate that was shown, as the decision to show it: the form that all readers of decisions know."""
        for place, candidate in enumerate(self.shown):
            ages = zip(self.tables, self.ages_ms[place], strict=True)
            yield DecisionLogged(
                decision_id=f"{self.decision_id}:{place}",
                request_id=self.request_id,
                usecase=self.usecase,
                event_id=impression_id(self.event_id, candidate),
                event_time=self.event_time,
                decided_at=self.decided_at,
                unit=self.unit,
                arm=self.arm,
                model_version=self.model_version,
                score=self.scores[place],
                action=SHOW,
                reasons=() if self.fallback is Fallback.NONE else (self.fallback,),
                fallback=self.fallback,
                feature_names=self.feature_names,
                features=self.features[place],
                feature_status=dict(zip(self.sources, self.statuses[place], strict=True)),
                feature_lag_ms=self.feature_lag_ms,
                feature_age_ms={table: age_ms for table, age_ms in ages if age_ms is not None},
                stage_ms=self.stage_ms,
                value=0.0,
                step=self.step,
                propensity=self.propensity,
                criticality=self.criticality,
                writer=self.writer,
                sequence=self.sequence,
                lost_before=self.lost_before,
            )


def decisions_of(raw: bytes, *, ranks: bool) -> Iterator[DecisionLogged]:
    """The decisions in one record of the log of a use case, of one that ranks or not. ValueError for no record."""
    if ranks:
        yield from RankingLogged.model_validate_json(raw).decisions()
    else:
        yield DecisionLogged.model_validate_json(raw)
