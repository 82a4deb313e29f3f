"""The selecting stage: from scores to what is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from flywheel.contracts.decisions import Step
from flywheel.kernel.decision.ladder import Scored
from flywheel.kernel.decision.record import Answered, Decided
from flywheel.kernel.decision.requests import Case
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.features import InvalidDeclaration
from flywheel.kernel.hydration import Hydrated
from flywheel.kernel.policy import Action, cheapest
from flywheel.kernel.reasons import Reasons

T_co = TypeVar("T_co", bound=Answered, covariant=True)


class Selector(Protocol[T_co]):
    """Makes the answer of one case of its scores."""

    def select(self, case: Case, scored: Scored, hydrated: Hydrated, row: int, decided_at_us: int) -> T_co:
        """The answer, all but its stage times. The case's rows begin at `row` in `hydrated`."""


class LeastCost:
    """Chooses the action of least expected cost for a subject of one row."""

    def __init__(self, usecase: UseCase, new_id: Callable[[], str]) -> None:
        self._name = usecase.name
        self._policy = usecase.costs
        self._reasons = Reasons(usecase)
        self._names = usecase.feature_names
        self._new_id = new_id
        self._static = usecase.ladder.static.action
        if self._static and self._static not in list(Action):
            raise InvalidDeclaration(
                f"{usecase.name}: the static answer {self._static!r} is none of {', '.join(Action)}"
            )

    def select(self, case: Case, scored: Scored, hydrated: Hydrated, row: int, decided_at_us: int) -> Decided:
        """The decision."""
        names, values = self._names, hydrated.rows[row].tolist()
        # Where the rule decides only what was read is shown; defaults are of interest where the model saw them.
        known = None if case.step.is_by_model else hydrated.known(row)
        reasons = self._reasons.declared(values, known)
        if known is not None:
            shown = known.nonzero()[0].tolist()
            names, values = tuple(names[place] for place in shown), [values[place] for place in shown]
        score = float(scored.scores[0])
        amount = float(getattr(case.subject.event, self._policy.amount_field))
        action = Action(self._static) if self._static and case.step is Step.STATIC else None
        action = action or cheapest(self._policy, score, amount)
        return Decided(
            case,
            self._new_id(),
            self._name,
            decided_at_us,
            scored.version,
            hydrated,
            row,
            score=score,
            action=action,
            reasons=self._reasons.given(reasons, action, case.why, case.step),
            value=amount,
            feature_names=names,
            features=values,
            feature_status=hydrated.statuses(row),
            feature_age_ms=hydrated.ages_ms(row),
        )
