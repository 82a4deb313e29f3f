"""Reading windows: a state, what has arrived since, and the request's own event, folded at the moment of decision.

A quiet entity decays by itself, because windows are cut when they are read. The read plan of a view is made once.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.event_folds import Distincts, Ends
from flywheel.kernel.features import BEFORE_REQUEST, Statistic
from flywheel.kernel.gathering import Found, Values, event_floats
from flywheel.kernel.number_folds import Chosen, Decays, Extremes, Spreads, Totals
from flywheel.kernel.plan import Part, TileView
from flywheel.kernel.rows import MARK, TIE, TIME, Cells, in_time
from flywheel.kernel.state import EntityState
from flywheel.kernel.stretches import PENDING, RAW, headed, whole, window_of

_TOTALS = frozenset({Statistic.COUNT, Statistic.SUM, Statistic.MEAN})
_SPREADS = frozenset({Statistic.VARIANCE, Statistic.STDDEV})


class _Fold(Protocol):
    def fold(self, found: Found, values: Values) -> None:
        """Puts the values of its features into their places."""


class Reading:
    """How the windows of one view are read; made once for each view, because a decision has no time to plan."""

    def __init__(self, view: TileView) -> None:
        self.view = view
        numbers = {window: number for number, window in enumerate(dict.fromkeys(map(window_of, view.features)))}
        self._whole, self._headed = whole(view, tuple(numbers)), headed(view, tuple(numbers))
        self._folds = _folds(view, {place: numbers[window_of(f)] for place, f in enumerate(view.features)})
        self._bounded = [(place, f.bounds) for place, f in enumerate(view.features) if f.bounds is not None]

    def values(
        self, state: EntityState, arrived: Cells, at_us: int, *, own: Cells | None = None, own_tie: int | None = None
    ) -> Values:
        """Values of the view's features at `at_us`, shape (features,), in the order of `view.features`.

        `arrived` are events that the state may not hold yet, in any order; those that it holds are passed over.
        `own` are the rows of the request's own event, `own_tie` its id hash.
        """
        cells = [_pending(state, arrived, own, own_tie), state.raw, *(tiles.cells for tiles in state.lanes)]
        cut = self._whole if at_us >= state.newest_us else self._headed
        stretches = cut.stretches([rows[:, TIME] for rows in cells], at_us)
        events = [event_floats(self.view, rows) for rows in (cells[PENDING], cells[RAW])]
        floats = [*events, *(tiles.floats for tiles in state.lanes)]
        found = Found(at_us, own_tie, stretches, cells, floats, state.lanes)
        values = np.empty(len(self.view.features))
        for fold in self._folds:
            fold.fold(found, values)
        for place, (least, most) in self._bounded:
            values[place] = min(max(values[place], least), most)
        return values


def _folds(view: TileView, windows: dict[int, int]) -> list[_Fold]:
    def chosen(statistics: frozenset[Statistic]) -> Chosen:
        return {place: f for place, f in enumerate(view.features) if f.statistic in statistics}

    found: list[_Fold] = []
    if totals := chosen(_TOTALS):
        found.append(Totals(view, totals, windows))
    for part in (Part.MIN, Part.MAX):
        if extremes := chosen(frozenset({Statistic(part)})):
            found.append(Extremes(view, extremes, windows, part))
    if spreads := chosen(_SPREADS):
        found.append(Spreads(view, spreads, windows))
    if decays := chosen(frozenset({Statistic.DECAYED})):
        found.append(Decays(view, decays, windows))
    if distincts := chosen(frozenset({Statistic.DISTINCT})):
        found.append(Distincts(view, distincts, windows))
    if ends := chosen(BEFORE_REQUEST):
        found.append(Ends(view, ends, windows))
    return found


def _pending(state: EntityState, arrived: Cells, own: Cells | None, own_tie: int | None) -> Cells:
    """Events to count beside the state, by time."""
    fresh = _unheld(state, arrived) if len(arrived) else arrived
    if own is None or not len(own) or (len(arrived) and (arrived[:, TIE] == own_tie).any()):
        return in_time(fresh) if len(fresh) > 1 else fresh
    if own[0, TIME] <= state.newest_us and _known(state, own[:1, TIE])[0]:
        return in_time(fresh) if len(fresh) > 1 else fresh
    return in_time(np.concatenate([fresh, own])) if len(fresh) else own


def _unheld(state: EntityState, arrived: Cells) -> Cells:
    """The events that the state does not hold."""
    fresh = arrived[~state.holds(arrived[:, MARK])]
    if not len(fresh) or fresh[:, TIME].min() > state.newest_us:
        return fresh
    return fresh[~_known(state, fresh[:, TIE])]


def _known(state: EntityState, ties: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which ids the state remembers."""
    known = np.concatenate([state.recent, state.raw[:, TIE]])
    if not len(known):
        return np.zeros(len(ties), np.bool_)
    known.sort()
    remembered: NDArray[np.bool_] = known[known.searchsorted(ties).clip(max=len(known) - 1)] == ties
    return remembered
