"""The scoring stage: one run of each model for all the rows that it scores, the declared steps for the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.decisions import Fallback
from flywheel.kernel.decision.ladder import FallbackLadder, Observer, Scored, Scores
from flywheel.kernel.decision.requests import Case
from flywheel.kernel.lineup import LoadedModel

Rows = NDArray[np.float32]
Own = slice | NDArray[np.intp]
"""Which of all rows are a case's."""


class ScoringStage:
    """Scores the cases of a cohort."""

    def __init__(self, ladder: FallbackLadder, observer: Observer, steady_s: Callable[[], float]) -> None:
        self._ladder = ladder
        self._observer = observer
        self._steady_s = steady_s

    def score(self, cases: Sequence[Case], rows: Rows, now_s: float) -> list[Scored]:
        """For each case the scores of the rows that it has left; `rows` are all, one case after another."""
        found: dict[int, Scored] = {}
        waiting: dict[int, list[tuple[int, Own]]] = {}
        models: dict[int, LoadedModel] = {}
        start = number = 0
        for place, case in enumerate(cases):
            own = slice(start, start + case.subject.rows) if case.left is None else start + case.left
            start += case.subject.rows
            number += case.rows
            if not case.step.is_by_model:
                found[place] = self._ladder.score(case)
            elif case.model is None:
                found[place] = self._ladder.without_model(case, Fallback.MODEL_UNAVAILABLE)
            elif not case.rows:
                found[place] = Scored(np.empty(0), case.model.version)
            elif not case.allowance.has_time_for_model(now_s):
                found[place] = self._ladder.without_model(case, Fallback.DEADLINE)
            else:
                models[id(case.model)] = case.model
                waiting.setdefault(id(case.model), []).append((place, own))
        several = len(waiting) > 1
        for model, mine in waiting.items():
            started_s = self._steady_s() if several else 0.0
            whole = number == len(rows) and len(mine) == len(cases)
            scores = self._run(models[model], rows if whole else _picked(rows, mine))
            first = 0
            for place, _ in mine:
                last = first + cases[place].rows
                found[place] = self._checked(cases[place], models[model], scores, slice(first, last))
                first = last
            if several:
                _note_run(cases, mine, self._steady_s() - started_s)
        return [found[place] for place in range(len(cases))]

    def _run(self, model: LoadedModel, rows: Rows) -> Scores | None:
        try:
            return model.scorer.score(rows)
        except Exception as error:
            # Engines raise errors of their own kinds; whatever it is, the callers get an answer by the rule.
            self._observer.model_failed(model.version, f"{type(error).__name__}: {error}")
            return None

    def _checked(self, case: Case, model: LoadedModel, scores: Scores | None, own: slice) -> Scored:
        if scores is None:
            return self._ladder.without_model(case, Fallback.MODEL_UNAVAILABLE)
        mine = scores[own]
        sound = 0 <= mine[0] <= 1 if len(mine) == 1 else bool(((mine >= 0) & (mine <= 1)).all())
        if sound:
            return Scored(mine, model.version)
        unsound = mine[~((mine >= 0) & (mine <= 1))]
        self._observer.model_failed(model.version, f"the score {unsound[0]} is no probability")
        return self._ladder.without_model(case, Fallback.MODEL_UNAVAILABLE)


def _note_run(cases: Sequence[Case], mine: Sequence[tuple[int, Own]], run_s: float) -> None:
    # The stage's time is that of all models together: by it a slow arm would look no slower than the others.
    for place, _ in mine:
        cases[place].run_s = run_s


def _picked(rows: Rows, mine: Sequence[tuple[int, Own]]) -> Rows:
    return np.concatenate([rows[own] for _, own in mine])
