"""The decision pipeline: subject, features, model, policy, reasons, each in its share of the time there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from flywheel.contracts.decisions import DecisionLogged, Fallback
from flywheel.contracts.events import from_us
from flywheel.kernel.declaration import LatencyBudget, UseCase
from flywheel.kernel.hydration import Hydrated, Hydrator, Row, Subject
from flywheel.kernel.lineup import Lineup, LoadedModel
from flywheel.kernel.policy import choose, expected_costs
from flywheel.kernel.ports import FeatureReader, Unavailable
from flywheel.kernel.reasons import reasons_for, rule_name
from flywheel.kernel.subject import read_subject

_KNOWS_NOTHING = 0.5


class OutOfTime(Exception):
    """The time for this decision is over: an answer now would come too late to be used."""


@dataclass(frozen=True)
class Clock:
    """The two clocks of a process: `wall_us` since the Unix epoch, `steady_s` which only moves forward."""

    wall_us: Callable[[], int]
    steady_s: Callable[[], float]


class Observer(Protocol):
    """Whoever wants to know what went wrong inside a decision that was answered all the same."""

    def features_unavailable(self, reason: str) -> None: ...

    def foreign_state(self, reason: str) -> None: ...

    def model_failed(self, version: str, reason: str) -> None: ...


class Watch:
    """Time spent and left of one decision.

    A caller who gives less than the declared total gets the same stages, each shortened alike.
    """

    def __init__(self, steady_s: Callable[[], float], budget: LatencyBudget, patience_ms: float) -> None:
        self._steady_s = steady_s
        self._started_s = self._lap_s = steady_s()
        self._total_ms = min(budget.total_ms, patience_ms)
        share = self._total_ms / budget.total_ms
        self._features_ms = budget.features_ms * share
        self._model_ms = budget.model_ms * share
        self.stage_ms: dict[str, float] = {}

    @property
    def spent_ms(self) -> float:
        return (self._steady_s() - self._started_s) * 1000

    @property
    def features_ms(self) -> float:
        """What reading features may take now, so that the model keeps its share; not above 0 when nothing is left."""
        return min(self._features_ms, self._total_ms - self.spent_ms - self._model_ms)

    @property
    def has_time_for_model(self) -> bool:
        return self._total_ms - self.spent_ms >= self._model_ms

    def lap(self, stage: str) -> None:
        """The stage that began with the last lap is over."""
        now_s = self._steady_s()
        self.stage_ms[stage] = (now_s - self._lap_s) * 1000
        self._lap_s = now_s

    def finish(self) -> None:
        """The decision is made. Raises OutOfTime when that took longer than there was."""
        spent_ms = self.stage_ms["total"] = self.spent_ms
        self.check(spent_ms)

    def check(self, spent_ms: float | None = None) -> None:
        """Raises OutOfTime when nothing is left."""
        spent_ms = self.spent_ms if spent_ms is None else spent_ms
        if spent_ms >= self._total_ms:
            raise OutOfTime(f"{spent_ms:.1f} ms have passed where {self._total_ms:.1f} ms were given")


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
        hydrated, late = await self._hydrate(subject, watch)
        columns = self._hydrator.columns(subject, hydrated)
        row = self._hydrator.row(columns) if hydrated.complete else None
        watch.lap("features")

        unit = str(getattr(subject.event, self._usecase.experiment.unit))
        arm, model = self._lineup().pick(unit)
        if row is None:
            why = Fallback.DEADLINE if late else Fallback.FEATURES_UNAVAILABLE
            values = self._hydrator.known(columns)
            scored = self._ruled(subject, why)
        else:
            values = dict(zip(self._names, row[0].tolist(), strict=True))
            scored = self._scored(subject, row, model, watch)
        watch.lap("model")

        amount = subject.numbers[self._usecase.policy.amount_field]
        action = choose(expected_costs(self._usecase.policy, scored.score, amount))
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
            stage_ms=watch.stage_ms,
            value=amount,
        )

    async def _hydrate(self, subject: Subject, watch: Watch) -> tuple[Hydrated, bool]:
        """What is known of the subject, and whether there was no time to ask."""
        timeout_ms = watch.features_ms
        if timeout_ms <= 0:
            return self._hydrator.unavailable(), True
        try:
            states, progress = await self._reader.read(subject.keys, timeout_ms / 1000)
        except Unavailable as error:
            self._observer.features_unavailable(str(error))
            return self._hydrator.unavailable(), False
        hydrated = self._hydrator.hydrate(subject, states, progress, self._clock.wall_us())
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
