"""The decision pipeline: subject, features, model, policy, reasons, each in its share of the time there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from flywheel.contracts.decisions import DecisionLogged, Fallback
from flywheel.contracts.events import from_us
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.hydration import Hydrated, Hydrator, Row, Subject
from flywheel.kernel.lineup import Lineup, LoadedModel
from flywheel.kernel.policy import choose, expected_costs
from flywheel.kernel.ports import FeatureReader, Unavailable
from flywheel.kernel.reasons import reasons_for, rule_name
from flywheel.kernel.subject import read_subject
from flywheel.kernel.timing import Clock, Watch

_KNOWS_NOTHING = 0.5


class Observer(Protocol):
    """Whoever wants to know what went wrong inside a decision that was answered all the same."""

    def features_unavailable(self, reason: str) -> None: ...

    def foreign_state(self, reason: str) -> None: ...

    def model_failed(self, version: str, reason: str) -> None: ...


@dataclass(frozen=True)
class _Scored:
    score: float
    version: str
    fallback: Fallback


class Decider:
    """Decides about subjects of one use case. Time, ids and models are handed in; all reading is the reader's."""

    def __init__(
        self,
        usecase: UseCase,
        reader: FeatureReader,
        lineup: Callable[[], Lineup],
        *,
        clock: Clock,
        new_id: Callable[[], str],
        observer: Observer,
    ) -> None:
        self._usecase = usecase
        self._reader = reader
        self._lineup = lineup
        self._clock = clock
        self._new_id = new_id
        self._observer = observer
        self._hydrator = Hydrator(usecase)
        self._names = usecase.feature_names
        self._rule = rule_name(usecase)

    async def decide(self, raw: bytes, *, request_id: str = "", patience_ms: float = float("inf")) -> DecisionLogged:
        """The decision about the subject in `raw` (JSON), within the declared budget and the caller's patience.

        Raises InvalidSubject, and OutOfTime when there is no answer in time.
        """
        watch = Watch(self._clock.steady_s, self._usecase.budget, patience_ms)
        watch.check()
        now_us = self._clock.wall_us()
        subject = self._hydrator.subject(read_subject(self._usecase.request, raw, now_us))
        unit = str(getattr(subject.event, self._usecase.experiment.unit))
        hydrated, late = await self._hydrate(subject, watch)
        columns = self._hydrator.columns(subject, hydrated)
        row = self._hydrator.row(columns) if hydrated.complete else None
        watch.lap("features")
        arm, model, _ = self._lineup().pick(unit)
        if row is None:
            scored = self._ruled(subject, Fallback.DEADLINE if late else Fallback.FEATURES_UNAVAILABLE)
            values = self._hydrator.known(columns)
        else:
            scored = self._scored(subject, row, model, watch)
            values = dict(zip(self._names, row[0].tolist(), strict=True))
        watch.lap("model")
        amount = subject.numbers[self._usecase.costs.amount_field]
        action = choose(expected_costs(self._usecase.costs, scored.score, amount))
        reasons = reasons_for(self._usecase, values, action, scored.fallback)
        watch.lap("policy")
        watch.finish()
        return DecisionLogged(
            decision_id=self._new_id(),
            request_id=request_id or self._new_id(),
            usecase=self._usecase.name,
            event_id=subject.event.event_id,
            event_time=subject.event.event_time,
            decided_at=from_us(now_us),
            unit=unit,
            arm=arm,
            model_version=scored.version,
            score=scored.score,
            action=action,
            reasons=reasons,
            fallback=scored.fallback,
            feature_names=tuple(values),
            features=tuple(values.values()),
            feature_status=hydrated.status,
            feature_lag_ms=hydrated.lag_ms,
            feature_age_ms=hydrated.age_ms,
            stage_ms=watch.stage_ms,
            value=amount,
        )

    async def _hydrate(self, subject: Subject, watch: Watch) -> tuple[Hydrated, bool]:
        """What is known of the subject, and whether there was no time to ask."""
        timeout_ms = watch.features_ms
        if timeout_ms <= 0:
            return self._hydrator.unavailable(), True
        try:
            answer = await self._reader.read(subject.question, timeout_ms / 1000)
        except Unavailable as error:
            self._observer.features_unavailable(str(error))
            return self._hydrator.unavailable(), False
        hydrated = self._hydrator.hydrate(subject, answer, self._clock.wall_us())
        for reason in hydrated.foreign:
            self._observer.foreign_state(reason)
        return hydrated, False

    def _scored(self, subject: Subject, row: Row, model: LoadedModel | None, watch: Watch) -> _Scored:
        if model is None:
            return self._ruled(subject, Fallback.MODEL_UNAVAILABLE)
        if not watch.has_time_for_model:
            return self._ruled(subject, Fallback.DEADLINE)
        try:
            score = float(model.scorer.score(row)[0])
        except Exception as error:
            # Engines raise errors of their own kinds; whatever it is, the caller gets an answer by the rule.
            self._observer.model_failed(model.version, f"{type(error).__name__}: {error}")
            return self._ruled(subject, Fallback.MODEL_UNAVAILABLE)
        if not 0 <= score <= 1:
            self._observer.model_failed(model.version, f"the score {score} is no probability")
            return self._ruled(subject, Fallback.MODEL_UNAVAILABLE)
        return _Scored(score, model.version, Fallback.NONE)

    def _ruled(self, subject: Subject, why: Fallback) -> _Scored:
        try:
            score = float(self._usecase.fallback.score(subject.numbers))
        except Exception as error:
            # The last resort must answer too: a rule that fails knows nothing.
            self._observer.model_failed(self._rule, f"{type(error).__name__}: {error}")
            score = _KNOWS_NOTHING
        return _Scored(score if 0 <= score <= 1 else _KNOWS_NOTHING, self._rule, why)
