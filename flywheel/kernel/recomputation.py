"""Windowed features of a decision computed again, as of its moment, from the archived events.

What a decision had seen is known but for a moment: of an event that arrived about then nobody can say whether it was
visible already. A value that depends on such an event is not decided upon.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.decisions import DecisionLogged
from flywheel.contracts.events import to_us
from flywheel.kernel.history import Moments, Values, history
from flywheel.kernel.plan import SLACK_US, TileView
from flywheel.kernel.rows import MARK, TIE, TIME, Cells, in_time
from flywheel.kernel.tiles import NO_TIME

_DOUBTFUL_LIMIT = 32
"""With more events in doubt than this about one entity, nothing about it is decided upon."""


@dataclass(frozen=True)
class Sight:
    """What a decision saw: every event that arrived by `certain_us`, and none that arrived after `possible_us`."""

    certain_us: int
    possible_us: int
    clear_from_us: int = NO_TIME
    """In event time: what happened before may be gone from the archive while counts of it stay."""


@dataclass(frozen=True)
class Recomputed:
    """The view's values, shape (features,), and which of them do not depend on an event in doubt."""

    values: Values
    decided: NDArray[np.bool_]


def sight_of(logged: DecisionLogged, margin_us: int) -> Sight | None:
    """The decision's sight; None where how far the store was behind is not known.

    `margin_us` is how long an event may take from its arrival to the broker's acknowledgement, and how far the clocks
    of two services may be apart.
    """
    if logged.feature_lag_ms < 0:
        return None
    decided_us = to_us(logged.decided_at)
    took_ms = logged.stage_ms.get("features", 0.0)
    return Sight(
        certain_us=decided_us - int(logged.feature_lag_ms * 1000) - margin_us,
        possible_us=decided_us + int(took_ms * 1000) + margin_us,
    )


def recompute(view: TileView, rows: Cells, at_us: int, own_tie: int, sight: Sight) -> Recomputed:
    """The features of one entity at `at_us` as far as they were in sight.

    `rows` are all events of the entity about then, each once in any order, marked with their arrival in microseconds.
    The event with the id hash `own_tie`, the request's own, was in sight whenever it arrived.
    """
    rows = in_time(rows)
    rows[rows[:, TIE] == own_tie, MARK] = sight.certain_us
    arrived_us = rows[:, MARK]
    doubtful = np.unique(arrived_us[(arrived_us > sight.certain_us) & (arrived_us <= sight.possible_us)])
    known_us = np.concatenate([np.array([sight.certain_us]), doubtful[:_DOUBTFUL_LIMIT]])
    moments = Moments(np.full_like(known_us, at_us), np.full_like(known_us, own_tie), known_us)
    values = history(view, rows, moments)
    steady = (values == values[0]) | np.isnan(values) & np.isnan(values[0])
    whole = len(doubtful) <= _DOUBTFUL_LIMIT and not _behind(rows, at_us, sight)
    clear = np.array([feature.bounds_us(at_us)[0] >= sight.clear_from_us for feature in view.features])
    return Recomputed(values[0], steady.all(axis=0) & clear & whole)


def _behind(rows: Cells, at_us: int, sight: Sight) -> bool:
    """Whether the moment lies further behind the entity's newest event than a store keeps windows exact for."""
    seen = rows[rows[:, MARK] <= sight.possible_us, TIME]
    return bool(len(seen)) and at_us < int(seen.max()) - SLACK_US
