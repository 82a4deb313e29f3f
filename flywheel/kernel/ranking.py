"""Words for a use case that ranks: which of many candidates to show, in which order, and what is tried out.

policy=Ranking(
    candidate="item_id", keep=20,
    filters=(Filter("sold_out", "item_stock", at_least=1),),
    exploration=EpsilonGreedy(0.05),
)

A ranking is many subjects of one context: each candidate is the request event with the declared field set to it. So
every word about features, labels and training means of a candidate what it means of any other subject.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.events import Event
from flywheel.kernel.features import InvalidDeclaration
from flywheel.kernel.fields import kind_of

UNKNOWN = "unknown"
"""Why a candidate was dropped of which nothing is stored."""
UNREADABLE = "unreadable"
"""Why one was dropped of which something is stored that cannot be read."""
STALE_CANDIDATE = "stale"
"""Why one was dropped whose features are too old, where the ladder keeps such from the model."""

_RESERVED = frozenset({UNKNOWN, UNREADABLE, STALE_CANDIDATE})


class Ties(StrEnum):
    """In which order candidates of one score stand: as the caller gave them, or by chance."""

    GIVEN = "given"
    SHUFFLED = "shuffled"


class Unknown(StrEnum):
    """What becomes of a candidate of which nothing is stored: it keeps its place, with defaults, or is dropped."""

    KEEP = "keep"
    DROP = "drop"


@dataclass(frozen=True)
class Filter:
    """Drops candidates whose feature is outside the bounds, and says so by this name. NaN is outside.

    Where the feature could not be read a filter lets everybody pass, but a strict one nobody.
    """

    name: str
    feature: str
    at_least: float = -math.inf
    at_most: float = math.inf
    strict: bool = False

    def passes(self, values: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Which of these values are within the bounds, at the values' own precision; shape (n,)."""
        return (values >= self.at_least) & (values <= self.at_most)


@dataclass(frozen=True)
class EpsilonGreedy:
    """At each position, with this probability, any of the candidates that are left instead of the best."""

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InvalidDeclaration(f"EpsilonGreedy({self.share}) is no probability above 0; leave exploration out")


@dataclass(frozen=True)
class Softmax:
    """At each position candidate `i` of those that are left with a probability proportional to exp(score/temperature).

    Scores are probabilities, so a temperature of 0.1 prefers 0.6 to 0.5 by a factor of e.
    """

    temperature: float

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise InvalidDeclaration(f"Softmax({self.temperature}): the temperature is a number above 0")


@dataclass(frozen=True)
class Ranking:
    """Chooses the candidates of the highest scores, `keep` of them unless the caller asks for another number."""

    candidate: str
    """The request's field that a candidate is a value of."""
    keep: int = 20
    filters: tuple[Filter, ...] = ()
    ties: Ties = Ties.GIVEN
    exploration: EpsilonGreedy | Softmax | None = None
    unknown: Unknown = Unknown.KEEP

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise InvalidDeclaration(f"a ranking that keeps {self.keep} shows nothing; keep at least one")
        names = [each.name for each in self.filters]
        if twice := sorted({name for name in names if names.count(name) > 1} | _RESERVED.intersection(names)):
            raise InvalidDeclaration(f"filters {', '.join(map(repr, twice))} are declared twice, or called so already")

    @property
    def dropped_by(self) -> tuple[str, ...]:
        """Every reason for which a candidate can be dropped."""
        return (*(each.name for each in self.filters), UNKNOWN, UNREADABLE, STALE_CANDIDATE)


def check_ranking(where: str, ranking: Ranking, request: type[Event], features: Sequence[str]) -> None:
    """Raises InvalidDeclaration where the ranking names a field or a feature that there is not."""
    if ranking.candidate not in request.model_fields:
        raise InvalidDeclaration(
            f"{where}: policy.candidate names {ranking.candidate!r}, which {request.__name__} does not have"
        )
    if kind_of(request, ranking.candidate) is not str:
        raise InvalidDeclaration(f"{where}: {ranking.candidate!r} is no text; candidates are named by their ids")
    if ranking.candidate in Event.model_fields:
        raise InvalidDeclaration(f"{where}: {ranking.candidate!r} is every event's own; no candidate can be its value")
    for each in ranking.filters:
        if each.feature not in features:
            raise InvalidDeclaration(f"{where}: filter {each.name!r} reads {each.feature!r}, which is not a feature")
        if not each.at_least <= each.at_most:
            raise InvalidDeclaration(f"{where}: filter {each.name!r} lets nobody pass")
