"""The scoring stage: one run of each model for all the rows that it scores, the declared steps for the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.decisions import Fallback
from flywheel.kernel.decision.ladder import FallbackLadder, Observer, Scored, Scores
from flywheel.kernel.decision.requests import Case
from flywheel.kernel.lineup import LoadedModel

Rows = NDArray[np.float32]


class ScoringStage:
    """Scores the cases of a cohort."""

    def __init__(self, ladder: FallbackLadder, observer: Observer, steady_s: Callable[[], float]) -> None:
        self._ladder = ladder
        self._observer = observer
        self._steady_s = steady_s

    def score(self, cases: Sequence[Case], rows: Rows, now_s: float) -> list[Scored]:
        """For each case the scores of the rows that it has left; `rows` are all, one case after another."""
        found: dict[int, Scored] = {}
        waiting: dict[int, tuple[LoadedModel, list[int]]] = {}
        for place, case in enumerate(cases):
            given = self._given(case, now_s)
            if isinstance(given, Scored):
                found[place] = given
            else:
                waiting.setdefault(id(given), (given, []))[1].append(place)
        for model, places in waiting.values():
            started_s = self._steady_s()
            scores = self._run(model, _rows_of(cases, places, rows))
            first = 0
            for place in places:
                case = cases[place]
                last = first + case.rows
                if scores is None:
                    found[place] = self._ladder.without_model(case, Fallback.MODEL_UNAVAILABLE)
                else:
                    found[place] = self._checked(case, model, scores[first:last])
                first = last
            if len(waiting) > 1:
                # The time of the stage is that of all models: by it a slow arm would look no slower than the others.
                run_s = self._steady_s() - started_s
                for place in places:
                    cases[place].run_s = run_s
        return [found[place] for place in range(len(cases))]

    def _given(self, case: Case, now_s: float) -> LoadedModel | Scored:
        """The model that is to run for a case, or the scores that it has without a run."""
        if not case.step.is_by_model:
            return self._ladder.score(case)
        if case.model is None:
            return self._ladder.without_model(case, Fallback.MODEL_UNAVAILABLE)
        if not case.rows:
            return Scored(np.empty(0), case.model.version)
        if not case.allowance.has_time_for_model(now_s):
            return self._ladder.without_model(case, Fallback.DEADLINE)
        return case.model

    def _run(self, model: LoadedModel, rows: Rows) -> Scores | None:
        try:
            return model.scorer.score(rows)
        except Exception as error:
            # Engines raise errors of their own kinds; whatever it is, the callers get an answer by the rule.
            self._observer.model_failed(model.version, f"{type(error).__name__}: {error}")
            return None

    def _checked(self, case: Case, model: LoadedModel, scores: Scores) -> Scored:
        for score in scores.tolist():
            if not 0 <= score <= 1:
                self._observer.model_failed(model.version, f"the score {score} is no probability")
                return self._ladder.without_model(case, Fallback.MODEL_UNAVAILABLE)
        return Scored(scores, model.version)


def _rows_of(cases: Sequence[Case], places: Sequence[int], rows: Rows) -> Rows:
    """Of all rows those that some cases have left."""
    if sum([cases[place].rows for place in places]) == len(rows):
        return rows
    firsts = list(accumulate([case.subject.rows for case in cases], initial=0))
    return np.concatenate([_left(cases[place], rows[firsts[place] : firsts[place + 1]]) for place in places])


def _left(case: Case, own: Rows) -> Rows:
    return own if case.left is None else own[case.left]
