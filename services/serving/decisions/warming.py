"""Makes everything warm that an answer takes, before the first one is asked for."""

from __future__ import annotations

from collections.abc import Callable

from flywheel.kernel.decision import Decider
from flywheel.kernel.decision.ranker import Ranker
from flywheel.kernel.decision.warming import Silent, warm_up
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.lineup import Lineup
from flywheel.kernel.ports import FeatureReader
from flywheel.kernel.ranking import Ranking
from flywheel.kernel.timing import Clock
from services.serving.decisions.answers import AnswerEncoder

_CANDIDATES = 50


class WarmUp:
    """Reads, scores and encodes decisions about nobody. They are neither logged nor counted."""

    def __init__(
        self,
        usecase: UseCase,
        reader: FeatureReader,
        lineup: Callable[[], Lineup],
        *,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._usecase = usecase
        self._clock = clock
        self._parts = (usecase, reader, lineup)
        self._new_id = new_id

    async def __call__(self) -> None:
        """Returns when everything is warm, or the store has been away for some tries."""
        if isinstance(self._usecase.policy, Ranking):
            ranker = Ranker(*self._parts, clock=self._clock, new_id=self._new_id, observer=Silent())
            for ranked in await warm_up(ranker, self._usecase, self._clock, candidates=_CANDIDATES):
                ranked.to_bytes()
            return
        decider = Decider(*self._parts, clock=self._clock, new_id=self._new_id, observer=Silent())
        encoder = AnswerEncoder()
        for decided in await warm_up(decider, self._usecase, self._clock):
            decided.to_bytes()
            encoder.encode(decided)
