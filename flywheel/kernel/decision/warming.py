"""Takes made-up requests through a pipeline, so that the first real one finds everything warm."""

from __future__ import annotations

from typing import Any, TypeVar

import orjson

from flywheel.contracts.events import Event, from_us, iso_utc
from flywheel.kernel.decision.pipeline import Cohort, Pipeline
from flywheel.kernel.decision.record import Answered
from flywheel.kernel.decision.requests import Case, DecisionRequest, Refused
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.fields import kind_of
from flywheel.kernel.hydration import UNAVAILABLE, Subject
from flywheel.kernel.timing import Allowance, Clock

NOBODY = "warm-up"
"""Stands for every id."""

_VALUES: dict[type | None, Any] = {str: NOBODY, int: 1, float: 1.0, bool: False}
_ROUNDS = 24
_MANY = 8
_FAILURES = 4
"""A store that is away so often in a row will not be warmed up."""

T = TypeVar("T", bound=Answered)


class Silent:
    """An observer that tells nobody: what is made up must leave no trace."""

    def features_unavailable(self, reason: str) -> None: ...

    def foreign_state(self, reason: str) -> None: ...

    def model_failed(self, version: str, reason: str) -> None: ...

    def unanswered(self, late: Answered, model_ms: float | None) -> None: ...


async def warm_up(pipeline: Pipeline[T], usecase: UseCase, clock: Clock, *, candidates: int = 0) -> list[T]:
    """Answers made-up requests, one and several at once, and gives the last answers; the pipeline is a silent one.

    With `candidates` they are about so many rows each.
    """
    found: list[T] = []
    failures = 0
    for number in range(_ROUNDS):
        now_us, now_s = clock.wall_us(), clock.steady_s()
        event = made_up(usecase.request, now_us)
        _read(pipeline, event)
        subject = Subject(event, [f"{NOBODY}-{n}" for n in range(candidates)])
        cases = [_case(usecase, subject, now_s) for _ in range(_MANY if number % 2 else 1)]
        outcomes = await pipeline.answer(Cohort(cases, now_us, now_s))
        found = [outcome for outcome in outcomes if not isinstance(outcome, Refused)]
        failures = 0 if found and (found[0].hydrated.status != UNAVAILABLE).any() else failures + 1
        if failures == _FAILURES:
            break
    return found


def made_up(request: type[Event], now_us: int) -> Event:
    """An event of that kind about nobody; its fields have the right types, and not always values that are allowed."""
    values: dict[str, Any] = {name: _VALUES.get(kind_of(request, name)) for name in request.model_fields}
    values["event_time"] = from_us(now_us)
    return request.model_construct(None, **values)


def _read(pipeline: Pipeline[T], event: Event) -> None:
    fields = {name: getattr(event, name) for name in type(event).model_fields}
    pipeline.begin([DecisionRequest(orjson.dumps({**fields, "event_time": iso_utc(event.event_time)}))])


def _case(usecase: UseCase, subject: Subject, now_s: float) -> Case:
    unit = str(getattr(subject.event, usecase.experiment.unit))
    return Case(DecisionRequest(b""), NOBODY, subject, unit, Allowance(usecase.budget, now_s, float("inf")))
