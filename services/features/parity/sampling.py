"""Samples decisions as they are logged, and holds each sample until the archive has what its decisions had seen."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from flywheel.adapters.logs import logger
from flywheel.contracts.decisions import DecisionLogged
from flywheel.contracts.events import to_us
from flywheel.contracts.rankings import decisions_of
from flywheel.kernel.ports import Record
from flywheel.kernel.reservoir import Reservoir

_WAITING_LIMIT = 8
"""Samples that wait for the archive; should it stand still, the oldest are given up."""

_log = logger(__name__)


@dataclass(frozen=True)
class Sample:
    """Decisions, and how far the archive must be for them to be examined."""

    decisions: tuple[DecisionLogged, ...]
    due_us: int


class Sampler:
    """A sample of at most `size` records in every interval of `every_s`. The same log and seed give the same one.

    A record is one decision or, where the use case `ranks`, a ranking and so several of them.
    `settle_us` after a decision its own event has arrived too, if it ever does.
    """

    def __init__(
        self,
        size: int,
        every_s: float,
        settle_us: int,
        *,
        seed: int,
        ranks: bool = False,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ranks = ranks
        self._reservoir = Reservoir[Record](size, random.Random(seed).randrange)
        self._every_s = every_s
        self._settle_us = settle_us
        self._steady_s = steady_s
        self._ends_s = steady_s() + every_s
        self._waiting: deque[Sample] = deque(maxlen=_WAITING_LIMIT)

    def offer(self, records: Sequence[Record]) -> None:
        """Records of the decisions' topic; only those of a finished sample are ever parsed."""
        for record in records:
            self._reservoir.offer(record)
        if self._steady_s() >= self._ends_s:
            self._ends_s = self._steady_s() + self._every_s
            self._finish([logged for record in self._reservoir.drain() for logged in _parsed(record, self._ranks)])

    def due(self, archived_until_us: int | None) -> Sample | None:
        """The oldest sample, if the archive holds everything acknowledged until it is due; it is given out once."""
        if archived_until_us is None or not self._waiting or self._waiting[0].due_us > archived_until_us:
            return None
        return self._waiting.popleft()

    def _finish(self, decisions: Sequence[DecisionLogged]) -> None:
        if decisions:
            newest_us = max(to_us(logged.decided_at) for logged in decisions)
            self._waiting.append(Sample(tuple(decisions), newest_us + self._settle_us))


def _parsed(record: Record, ranks: bool) -> list[DecisionLogged]:
    try:
        found = list(decisions_of(record.value, ranks=ranks))
    except ValidationError as error:
        _log.warning("decision_not_sampled", offset=record.offset, errors=error.error_count())
        return []
    return [logged for logged in found if len(logged.features) == len(logged.feature_names)]
