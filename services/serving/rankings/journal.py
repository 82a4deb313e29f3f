"""What is told of rankings: as of decisions, by candidate where that is another thing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from flywheel.adapters.logs import Pseudonyms
from flywheel.contracts.metrics import SERVING_RANKING_CANDIDATES, SERVING_RANKING_DROPPED
from flywheel.contracts.rankings import SHOW
from flywheel.kernel.decision.shortlist import Ranked
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.ports import DecisionLog
from flywheel.kernel.ranking import Ranking
from services.serving.decisions.journal import Journal


class RankingJournal(Journal):
    """The journal of one use case that ranks with these words."""

    def __init__(
        self,
        usecase: UseCase,
        ranking: Ranking,
        log: DecisionLog,
        pseudonyms: Pseudonyms,
        *,
        on_model_failed: Callable[[str, str], None] = lambda *_: None,
        on_ranked: Callable[[Sequence[Ranked]], None] = lambda _: None,
    ) -> None:
        super().__init__(usecase, log, pseudonyms, on_model_failed=on_model_failed)
        self._on_ranked = on_ranked
        self._candidates = SERVING_RANKING_CANDIDATES.labels(usecase.name)
        self._dropped = {name: SERVING_RANKING_DROPPED.labels(usecase.name, name) for name in ranking.dropped_by}

    def ranked(self, ranking: Ranked) -> Awaitable[None] | None:
        """This ranking is about to be answered, as soon as what comes back is done; None: at once."""
        records = [(ranking.unit.encode(), ranking.to_bytes())]
        waiting = self._decisions.append_many(self._unanswered.told_by(records))
        self._counts.ended([(SHOW, ranking.arm, ranking.fallback)])
        self._counts.answered([ranking])
        self._candidates.observe(len(ranking.offered))
        for reason, number in ranking.dropped.items():
            self._dropped[reason].inc(number)
        for source, statuses in ranking.statuses.items():
            self._counts.read(source, statuses)
        self._counts.aged(_oldest_ms(ranking))
        self._on_ranked([ranking])
        return waiting


def _oldest_ms(ranking: Ranked) -> dict[str, float]:
    """The age of the oldest load that any candidate has, by table, only where there is one."""
    ages_ms = ranking.hydrated.age_ms[ranking.row : ranking.row + len(ranking.offered)]
    oldest_ms = np.fmax.reduce(ages_ms, axis=0).tolist() if ages_ms.size else []
    found = zip(ranking.hydrated.layout.tables, oldest_ms, strict=False)
    return {table: age_ms for table, age_ms in found if age_ms == age_ms}
