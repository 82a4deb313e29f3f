"""Ranks candidates: the decision pipeline with a source of many subjects and a selector of the best."""

from __future__ import annotations

from collections.abc import Callable

from flywheel.kernel.decision.candidates import MAX_CANDIDATES, CandidateSource
from flywheel.kernel.decision.filters import CandidateFilters
from flywheel.kernel.decision.ladder import Observer
from flywheel.kernel.decision.pipeline import Pipeline
from flywheel.kernel.decision.shortlist import Ranked, Shortlist
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.features import InvalidDeclaration
from flywheel.kernel.lineup import Lineup
from flywheel.kernel.ports import FeatureReader
from flywheel.kernel.ranking import Ranking
from flywheel.kernel.timing import Clock


class Ranker(Pipeline[Ranked]):
    """Ranks for one use case. Raises InvalidDeclaration when that one does not rank."""

    def __init__(
        self,
        usecase: UseCase,
        reader: FeatureReader,
        lineup: Callable[[], Lineup],
        *,
        clock: Clock,
        new_id: Callable[[], str],
        observer: Observer,
        max_candidates: int = MAX_CANDIDATES,
    ) -> None:
        ranking = usecase.policy
        if not isinstance(ranking, Ranking):
            raise InvalidDeclaration(f"{usecase.name} does not rank: its policy is {type(ranking).__name__}")
        super().__init__(
            usecase,
            reader,
            lineup,
            Shortlist(usecase, ranking, new_id),
            clock=clock,
            new_id=new_id,
            observer=observer,
            read_subject=CandidateSource(usecase.request, ranking.candidate, limit=max_candidates).subject,
            candidate=ranking.candidate,
            filters=CandidateFilters(usecase, ranking),
        )
