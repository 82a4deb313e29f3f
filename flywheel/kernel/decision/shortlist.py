"""The last stage of a ranking: the best candidates are selected, and what is shown is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from flywheel.contracts.decisions import FeatureStatus
from flywheel.contracts.rankings import RankingLogged
from flywheel.kernel.decision.ladder import Scored
from flywheel.kernel.decision.record import Answered, json_number
from flywheel.kernel.decision.requests import Case
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.hydration import STATUSES, UNAVAILABLE, Hydrated
from flywheel.kernel.ranking import Ranking
from flywheel.kernel.selection import Selection, select


@dataclass(slots=True)
class Ranked(Answered):
    """One ranking. `shown`: where each candidate stood among those that were offered, best first."""

    shown: NDArray[np.intp]
    scores: NDArray[np.float64]
    propensities: NDArray[np.float64]
    known: NDArray[np.bool_] | None
    """Which features stand on what was read of all that is shown, shape (features,); None for all."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many candidates were dropped, by reason."""
        return self.case.dropped

    @property
    def offered(self) -> Sequence[str]:
        return self.case.subject.candidates

    @property
    def candidates(self) -> list[str]:
        """What is shown, best first."""
        offered = self.offered
        return [offered[place] for place in self.shown.tolist()]

    @property
    def statuses(self) -> dict[str, dict[str, int]]:
        """By source, how many of the offered candidates have features of which status."""
        if self.hydrated.is_fresh:
            return {source: {str(FeatureStatus.FRESH): len(self.offered)} for source in self.hydrated.layout.sources}
        codes = self.hydrated.status[self.row : self.row + len(self.offered)]
        counted = (np.bincount(column, minlength=len(STATUSES)).tolist() for column in codes.T)
        return {
            source: {str(status): number for status, number in zip(STATUSES, numbers, strict=True) if number}
            for source, numbers in zip(self.hydrated.layout.sources, counted, strict=True)
        }

    def logged(self) -> RankingLogged:
        """The record as its readers see it."""
        return RankingLogged.model_validate_json(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The bytes of a `RankingLogged`."""
        case, layout, rows = self.case, self.hydrated.layout, self.row + self.shown
        names: Sequence[str] = layout.names
        features: NDArray[Any] = self.hydrated.rows[rows]
        if self.known is not None:
            names = [name for name, known in zip(names, self.known.tolist(), strict=True) if known]
            features = features[:, self.known]
        record = self.common_fields() | {
            "offered": len(self.offered),
            "dropped": case.dropped,
            "shown": self.candidates,
            "scores": self.scores,
            "propensities": self.propensities,
            "feature_names": names,
            "features": _numbers(features.astype(np.float64)),
            "sources": layout.sources,
            "statuses": [[STATUSES[code] for code in codes] for codes in self.hydrated.status[rows].tolist()],
            "tables": layout.tables,
            # What is no number is null here: nothing is loaded.
            "ages_ms": np.ascontiguousarray(self.hydrated.age_ms[rows]),
        }
        return orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY)


class Shortlist:
    """Selects the best candidates of a case as the use case's ranking declares it."""

    def __init__(self, usecase: UseCase, ranking: Ranking, new_id: Callable[[], str]) -> None:
        self._name = usecase.name
        self._ranking = ranking
        self._new_id = new_id

    def select(self, case: Case, scored: Scored, hydrated: Hydrated, row: int, decided_at_us: int) -> Ranked:
        """The ranking."""
        keep = case.request.keep or self._ranking.keep
        if case.step.is_by_model:
            # A caller may give each request the same id: without the event's all would draw the same.
            seed = f"{case.request_id}:{case.subject.event.event_id}"
            chosen = select(self._ranking, scored.scores, keep, seed)
        else:
            # Nothing tells the candidates apart: they stay in the order in which they were given.
            number = min(keep, case.rows)
            chosen = Selection(np.arange(number), np.ones(number))
        shown = chosen.places if case.left is None else case.left[chosen.places]
        return Ranked(
            case,
            self._new_id(),
            self._name,
            decided_at_us,
            scored.version,
            hydrated,
            row,
            shown=shown,
            scores=scored.scores[chosen.places],
            propensities=chosen.propensities,
            known=None if case.step.is_by_model else _known(hydrated, row + shown),
        )


def _known(hydrated: Hydrated, rows: NDArray[np.intp]) -> NDArray[np.bool_] | None:
    gone = (hydrated.status[rows] == UNAVAILABLE).any(axis=0)
    return ~(hydrated.layout.needs @ gone) if gone.any() else None


def _numbers(features: NDArray[np.float64]) -> Any:
    """Rows for JSON, which has no words for what is not finite; those are written as pydantic reads them."""
    if np.isfinite(features).all():
        return np.ascontiguousarray(features)
    return [[orjson.Fragment(json_number(value)) for value in row] for row in features.tolist()]
