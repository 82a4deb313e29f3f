"""The filters of a ranking: which candidates are judged at all, and why the others are not."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.decisions import Fallback, Step
from flywheel.kernel.decision.requests import Case
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.hydration import MISSING, STALE, UNAVAILABLE, Hydrated
from flywheel.kernel.ranking import STALE_CANDIDATE, UNKNOWN, UNREADABLE, Ranking, Unknown
from flywheel.kernel.vector import RowLayout

_SOME_ARE_READ = (Fallback.NONE, Fallback.FEATURES_STALE)


class Filters(Protocol):
    """Drops rows of a case before anything scores them."""

    def apply(self, case: Case, row: int, hydrated: Hydrated) -> None:
        """Says which rows the case has left, and what became of the others. Its rows begin at `row` in `hydrated`."""


class CandidateFilters:
    """The declared filters; beside them, what cannot be read of a candidate drops it, as does what is stale where the
    model must not see that, and what is not known may."""

    def __init__(self, usecase: UseCase, ranking: Ranking) -> None:
        self._ranking = ranking
        self._takes_stale = usecase.ladder.stale is Step.MODEL
        self._filters = [(each, usecase.feature_names.index(each.feature)) for each in ranking.filters]
        varying = {entity.name for entity in usecase.entities if ranking.candidate in entity.request_keys}
        varying |= {table.name for table in usecase.attribute_tables if table.entity.name in varying}
        sources = RowLayout(usecase, ranking.candidate).sources
        self._of_candidate = np.array([source in varying for source in sources], np.bool_)

    def apply(self, case: Case, row: int, hydrated: Hydrated) -> None:
        """Each candidate that goes is counted under the first of its reasons."""
        mine = slice(row, row + case.subject.rows)
        stays = np.ones(case.subject.rows, np.bool_)
        dropped: dict[str, int] = {}
        codes = hydrated.status[mine]
        some_unread = not hydrated.is_fresh and bool(codes.any())
        if some_unread:
            if case.why in _SOME_ARE_READ:
                _drop(stays, (codes == UNAVAILABLE).any(axis=1), UNREADABLE, dropped)
            if case.step is Step.MODEL and not self._takes_stale:
                _drop(stays, (codes == STALE).any(axis=1), STALE_CANDIDATE, dropped)
            if self._ranking.unknown is Unknown.DROP:
                _drop(stays, (codes[:, self._of_candidate] == MISSING).any(axis=1), UNKNOWN, dropped)
        for each, place in self._filters:
            outside = ~each.passes(hydrated.rows[mine, place])
            if some_unread:
                unread = (codes == UNAVAILABLE) @ hydrated.layout.needs[place]
                outside = np.where(unread, each.strict, outside)
            _drop(stays, outside, each.name, dropped)
        case.dropped = dropped
        case.left = np.flatnonzero(stays) if dropped else None


def _drop(stays: NDArray[np.bool_], goes: NDArray[np.bool_], reason: str, dropped: dict[str, int]) -> None:
    number = int(np.count_nonzero(stays & goes))
    if number:
        dropped[reason] = number
        stays &= ~goes
