"""The guard stops asking a model that fails, hangs or gives no numbers, and asks it again once a second."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from numpy.typing import NDArray

from flywheel.adapters.guarded_scorer import GuardedScorer, ModelAway

ROWS = np.zeros((4, 3), np.float32)


class Model:
    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.runs = 0
        self.error: Exception | None = None
        self.score_s = 0.001
        self.value = 0.5

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        self.runs += 1
        self.scene.now_s += self.score_s
        if self.error:
            raise self.error
        return np.full(len(rows), self.value)


class Scene:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.model = Model(self)
        self.guarded = GuardedScorer(self.model, patience_s=0.05, steady_s=lambda: self.now_s)

    def runs(self, times: int, every_s: float) -> int:
        """How many of the calls reached the model."""
        before = self.model.runs
        for _ in range(times):
            with suppress(ModelAway, RuntimeError):
                self.guarded.score(ROWS)
            self.now_s += every_s
        return self.model.runs - before


@pytest.mark.parametrize(
    ("error", "score_s", "value"),
    [(RuntimeError("broken"), 0.001, 0.5), (None, 0.2, 0.5), (None, 0.001, float("nan"))],
    ids=["fails", "hangs", "gives no number"],
)
def test_a_model_that_does_nothing_but_that_is_asked_once_a_second(
    error: Exception | None, score_s: float, value: float
) -> None:
    scene = Scene()
    scene.model.error, scene.model.score_s, scene.model.value = error, score_s, value
    scene.runs(20, every_s=0.05)
    assert scene.guarded.is_open
    assert scene.runs(100, every_s=0.05) <= 6


def test_it_is_asked_again_as_soon_as_a_trial_goes_well() -> None:
    scene = Scene()
    scene.model.error = RuntimeError("broken")
    scene.runs(20, every_s=0.05)
    scene.model.error = None
    scene.now_s += 1.0
    assert scene.runs(10, every_s=0.01) == 10
    assert not scene.guarded.is_open


def test_one_slow_run_among_others_opens_nothing() -> None:
    scene = Scene()
    for _ in range(20):
        scene.model.score_s = 0.2
        scene.runs(2, every_s=0.1)
        scene.model.score_s = 0.001
        scene.runs(1, every_s=0.1)
        assert not scene.guarded.is_open


def test_many_rows_may_take_longer() -> None:
    scene = Scene()
    scene.model.score_s = 0.2
    for _ in range(20):
        scene.guarded.score(np.zeros((500, 3), np.float32))
    assert not scene.guarded.is_open


def test_errors_and_scores_are_those_of_the_model() -> None:
    scene = Scene()
    assert scene.guarded.score(ROWS).tolist() == [0.5] * 4
    scene.model.error = RuntimeError("broken")
    with pytest.raises(RuntimeError, match="broken"):
        scene.guarded.score(ROWS)
