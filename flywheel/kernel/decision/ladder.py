"""The steps below the model, as a use case declares them: defaults, rule score, static answer."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.decisions import Fallback, Step
from flywheel.kernel.decision.record import Answered
from flywheel.kernel.decision.requests import Case
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.hydration import STALE, UNAVAILABLE, Hydrated
from flywheel.kernel.reasons import STATIC, rule_name
from flywheel.kernel.vector import request_numbers

Scores = NDArray[np.float64]


class Observer(Protocol):
    """Whoever wants to know what went wrong inside a decision, answered all the same or too late for that."""

    def features_unavailable(self, reason: str) -> None: ...

    def foreign_state(self, reason: str) -> None: ...

    def model_failed(self, version: str, reason: str) -> None: ...

    def unanswered(self, late: Answered, model_ms: float | None) -> None:
        """This answer came too late to be given; None where its arm's model was not run."""


class Scored(NamedTuple):
    """Scores of the rows that a case has left, shape (rows,), and the version of what gave them."""

    scores: Scores
    version: str


class FallbackLadder:
    """Says on which step a case stands, and scores those that stand below the model."""

    def __init__(self, usecase: UseCase, observer: Observer) -> None:
        self._ladder = usecase.ladder
        self._rule = usecase.fallback.score
        self._rule_name = rule_name(usecase)
        self._observer = observer

    def place(self, case: Case, row: int, hydrated: Hydrated, *, late: bool) -> None:
        """Puts the case on its step by what is known of its rows, the first of which is `row`.

        `late`: there was no time to ask for features.
        """
        if hydrated.is_fresh:
            return
        codes = hydrated.status[row : row + case.subject.rows]
        if not np.count_nonzero(codes):
            return
        # One candidate that cannot be read, or is too old, is dropped; the case goes down when that holds for all.
        unread = (codes == UNAVAILABLE).any(axis=1)
        stale = (codes == STALE).any(axis=1)
        if late or unread.all():
            case.why = Fallback.DEADLINE if late else Fallback.FEATURES_UNAVAILABLE
            case.step = self._ladder.unavailable.or_lower(self._ladder.stale if stale.any() else Step.MODEL)
        elif self._ladder.stale is not Step.MODEL and (stale | unread).all():
            case.why, case.step = Fallback.FEATURES_STALE, self._ladder.stale

    def without_model(self, case: Case, why: Fallback) -> Scored:
        """The case's scores when its model gives none: on the declared step, for this reason unless it has one."""
        if case.why is Fallback.NONE:
            case.why = why
        case.step = self._ladder.no_model
        return self.score(case)

    def score(self, case: Case) -> Scored:
        """By the rule or, below that, the static answer."""
        if case.step is Step.RULE:
            score, version = self._ruled(case), self._rule_name
        else:
            score, version = self._ladder.static.score, STATIC
        return Scored(np.full(case.rows, score), version)

    def _ruled(self, case: Case) -> float:
        try:
            score = float(self._rule(request_numbers(case.subject.event)))
        except Exception as error:
            # The last resort must answer too, whatever a declared rule raises.
            self._observer.model_failed(self._rule_name, f"{type(error).__name__}: {error}")
            score = -1.0
        if 0 <= score <= 1:
            return score
        case.step = Step.STATIC
        return self._ladder.static.score
