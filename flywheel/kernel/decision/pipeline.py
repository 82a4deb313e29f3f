"""The pipeline: takes requests through the stages, each in its share of the time there is.

Requests that come together share one question to the feature store and one run of each model. The pipeline alone
keeps deadlines, times the stages and says on which step of the ladder a request stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Generic, NamedTuple, TypeVar

from flywheel.contracts.decisions import MODEL_RUN
from flywheel.kernel.decision.cohorts import cohorts_of
from flywheel.kernel.decision.filters import Filters
from flywheel.kernel.decision.ladder import FallbackLadder, Observer
from flywheel.kernel.decision.record import Answered, Decided
from flywheel.kernel.decision.requests import Case, DecisionRequest, Refused
from flywheel.kernel.decision.scorers import ScoringStage
from flywheel.kernel.decision.selectors import LeastCost, Selector
from flywheel.kernel.decision.sources import ReadSubject, Source
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.hydration import Hydrated, Hydrator, Subject
from flywheel.kernel.lineup import Lineup
from flywheel.kernel.ports import Answer, FeatureReader, PartlyUnavailable, Unavailable
from flywheel.kernel.timing import Clock

T = TypeVar("T", bound=Answered)
_SUBJECT: Callable[[Case], Subject] = attrgetter("subject")


class Cohort(NamedTuple):
    """Cases that are answered together, and where each of them stood among the requests."""

    cases: Sequence[Case]
    begun_us: int
    """When that was, wall clock, microseconds: before anything was asked for."""
    begun_s: float

    @property
    def places(self) -> list[int]:
        return [case.place for case in self.cases]


class Begun(NamedTuple):
    """Requests that were read: those that end here, by their places, and the others in cohorts."""

    refused: Sequence[tuple[int, Refused]]
    cohorts: Sequence[Cohort]


class Pipeline(Generic[T]):
    """Answers requests of one use case. Time, ids and models are handed in; all reading is the reader's.

    `candidate`, with a `read_subject` that finds candidates, is the field in which the rows of a request differ.
    """

    def __init__(
        self,
        usecase: UseCase,
        reader: FeatureReader,
        lineup: Callable[[], Lineup],
        selector: Selector[T],
        *,
        clock: Clock,
        new_id: Callable[[], str],
        observer: Observer,
        read_subject: ReadSubject | None = None,
        candidate: str = "",
        filters: Filters | None = None,
    ) -> None:
        self._reader = reader
        self._lineup = lineup
        self._selector = selector
        self._clock = clock
        self._observer = observer
        self._source = Source(usecase, new_id, read_subject)
        self._hydrator = Hydrator(usecase, candidate)
        self._filters = filters
        self._ladder = FallbackLadder(usecase, observer)
        self._scoring = ScoringStage(self._ladder, observer, clock.steady_s)

    async def decide(self, requests: Sequence[DecisionRequest]) -> list[T | Refused]:
        """An answer or a refusal for each request, in order. What one gets does not depend on the others."""
        begun = self.begin(requests)
        if len(begun.cohorts) == 1 and not begun.refused:
            return await self.answer(begun.cohorts[0])
        found: dict[int, T | Refused] = dict(begun.refused)
        outcomes = await asyncio.gather(*(self.answer(cohort) for cohort in begun.cohorts))
        for cohort, answered in zip(begun.cohorts, outcomes, strict=True):
            found.update(zip(cohort.places, answered, strict=True))
        return [found[place] for place in range(len(requests))]

    def begin(self, requests: Sequence[DecisionRequest]) -> Begun:
        """Reads the requests. Each cohort is to be answered, all at once: their questions then share a round trip."""
        now_us, now_s = self._clock.wall_us(), self._clock.steady_s()
        refused: list[tuple[int, Refused]] = []
        cases = []
        for place, request in enumerate(requests):
            case = self._source.case(request, now_us, now_s)
            if isinstance(case, Refused):
                refused.append((place, case))
            else:
                case.place = place
                cases.append(case)
        return Begun(refused, [Cohort(some, now_us, now_s) for some in cohorts_of(cases, now_s)])

    async def answer(self, cohort: Cohort) -> list[T | Refused]:
        """An answer or a refusal for each case of a cohort, in order."""
        try:
            return await self._answer(cohort)
        except Exception as error:
            # Nobody foresaw it. Whoever caused it gets the error, the others their answers.
            if len(cohort.cases) == 1:
                return [Refused(cohort.cases[0].request_id, error)]
        return await self._each_alone(cohort)

    async def _each_alone(self, cohort: Cohort) -> list[T | Refused]:
        """Answers a cohort's cases from the beginning, none together with another."""
        for case in cohort.cases:
            case.begin()
        alone = [self.answer(cohort._replace(cases=[case])) for case in cohort.cases]
        return [outcome for outcomes in await asyncio.gather(*alone) for outcome in outcomes]

    async def _answer(self, cohort: Cohort) -> list[T | Refused]:
        cases, now_s = cohort.cases, self._clock.steady_s()
        times_s = [case.allowance.features_s(now_s) for case in cases]
        timeout_s = min(times_s)
        if timeout_s <= 0 < max(times_s):
            return await self._apart(cohort, [time_s <= 0 for time_s in times_s])
        subjects = list(map(_SUBJECT, cases))
        known: Answer | None = None
        if timeout_s > 0:
            try:
                known = await self._reader.read(self._hydrator.question(subjects), timeout_s)
            except Unavailable as error:
                if isinstance(error, PartlyUnavailable) and len(cases) > 1:
                    # Whose part of the store is there is not to do without it for the sake of the others.
                    return await self._each_alone(cohort)
                self._observer.features_unavailable(str(error))
        return self._judged(cohort, self._hydrated(subjects, known), late=timeout_s <= 0)

    async def _apart(self, cohort: Cohort, late: Sequence[bool]) -> list[T | Refused]:
        """Answers those whose time for features ran out before the cohort's turn apart from the others."""
        sides = [[place for place, each in enumerate(late) if each is side] for side in (False, True)]
        parts = [cohort._replace(cases=[cohort.cases[place] for place in side]) for side in sides]
        outcomes = await asyncio.gather(*(self.answer(part) for part in parts))
        found: dict[int, T | Refused] = {}
        for side, answered in zip(sides, outcomes, strict=True):
            found.update(zip(side, answered, strict=True))
        return [found[place] for place in range(len(late))]

    def _hydrated(self, subjects: Sequence[Subject], known: Answer | None) -> Hydrated:
        """The features of the subjects; None is known where there was no answer."""
        if known is None:
            return self._hydrator.unavailable(subjects)
        hydrated = self._hydrator.hydrate(subjects, known, self._clock.wall_us())
        for reason in hydrated.foreign:
            self._observer.foreign_state(reason)
        return hydrated

    def _judged(self, cohort: Cohort, hydrated: Hydrated, *, late: bool) -> list[T | Refused]:
        """What is answered to each case, all that can be known being there: from here on nothing is waited for."""
        cases, steady_s = cohort.cases, self._clock.steady_s
        row, lineup = 0, self._lineup()
        for case in cases:
            case.arm, case.model, case.propensity = lineup.pick(case.unit)
            self._ladder.place(case, row, hydrated, late=late)
            if self._filters is not None:
                self._filters.apply(case, row, hydrated)
            row += case.subject.rows
        read_s = steady_s()
        scored = self._scoring.score(cases, hydrated.rows, read_s)
        scored_s = steady_s()
        row, found = 0, list[T]()
        for case, scores in zip(cases, scored, strict=True):
            found.append(self._selector.select(case, scores, hydrated, row, cohort.begun_us))
            row += case.subject.rows
        done_s = steady_s()
        return [self._timed(answered, cohort.begun_s, read_s, scored_s, done_s) for answered in found]

    def _timed(self, answered: T, begun_s: float, read_s: float, scored_s: float, done_s: float) -> T | Refused:
        """The answer with its times, or the refusal that it has become because it took too long."""
        case = answered.case
        late = case.allowance.late(done_s)
        if late is not None:
            model_s = scored_s - read_s if case.run_s is None else case.run_s
            self._observer.unanswered(answered, model_s * 1000 if case.step.is_by_model else None)
            return Refused(case.request_id, late)
        answered.stage_ms = {
            "queue": (begun_s - case.allowance.arrived_s) * 1000,
            "features": (read_s - begun_s) * 1000,
            "model": (scored_s - read_s) * 1000,
            "policy": (done_s - scored_s) * 1000,
            "total": (done_s - case.allowance.arrived_s) * 1000,
        }
        if case.run_s is not None:
            answered.stage_ms[MODEL_RUN] = case.run_s * 1000
        return answered


class Decider(Pipeline[Decided]):
    """Decides about one subject a request, by the use case's costs."""

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
        selector = LeastCost(usecase, new_id)
        super().__init__(usecase, reader, lineup, selector, clock=clock, new_id=new_id, observer=observer)
