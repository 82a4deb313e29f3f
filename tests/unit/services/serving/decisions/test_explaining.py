"""An explanation adds up to the score it explains, takes bounded time and is otherwise refused with a reason."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from flywheel.contracts.decisions import Step
from flywheel.kernel.attribution import Attribution, NotExplainable
from flywheel.kernel.decision import Decided
from flywheel.kernel.lineup import LoadedModel
from services.serving.decisions import explaining
from services.serving.decisions.explaining import Explainer
from tests import decided as parts
from tests.serving_parts import USECASE

PATIENT = replace(USECASE, budget=replace(USECASE.budget, explain_ms=3_600_000))
"""However busy the machine that tests: no test waits for it."""
FEATURES = len(USECASE.feature_names)
PARTS = np.zeros(FEATURES)
PARTS[[2, 5, 7]] = -2.0, 0.5, 1.0
ATTRIBUTION = Attribution(-1.0, PARTS)


class Scorer:
    """Explains every row alike, once it may."""

    def __init__(self, explain: Callable[[], Attribution] = lambda: ATTRIBUTION) -> None:
        self._explain = explain

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.full(len(rows), ATTRIBUTION.score)

    def explain(self, row: NDArray[np.float32]) -> Attribution:
        assert row.shape == (FEATURES,)
        return self._explain()


class Mute:
    """Cannot explain itself."""

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.zeros(len(rows))


def decided(scorer: Scorer | Mute | None, score: float = ATTRIBUTION.score, step: Step = Step.MODEL) -> Decided:
    made = parts.decided(score=score)
    made.case.step = step
    made.case.model = LoadedModel("v1", scorer) if scorer else None
    return made


async def refused(made: Decided, deadline_s: float = float("inf")) -> str:
    return str((await Explainer(PATIENT).explain(made, 3, deadline_s)).unexplained)


async def test_the_largest_contributions_come_first_and_add_up_with_the_others() -> None:
    explanation = await Explainer(PATIENT).explain(decided(Scorer()), 2)
    names = USECASE.feature_names
    assert explanation.unexplained == ""
    assert [(part.feature, part.value) for part in explanation.contributions] == [(names[2], -2.0), (names[7], 1.0)]
    assert explanation.contribution_base == -1.0
    everything = await Explainer(PATIENT).explain(decided(Scorer()), 10_000)
    assert sum(part.value for part in everything.contributions) == ATTRIBUTION.margin + 1.0


def _not_explainable() -> Attribution:
    raise NotExplainable("no covers")


def _broken() -> Attribution:
    raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (decided(None), "no_model"),
        (decided(Scorer(), step=Step.RULE), "no_model"),
        (decided(Mute()), "unsupported_model"),
        (decided(Scorer(_not_explainable)), "unsupported_model"),
        (decided(Scorer(_broken)), "failed"),
        (decided(Scorer(), score=0.9), "failed"),
        (decided(Scorer(), score=float("nan")), "failed"),
    ],
)
async def test_what_cannot_be_explained_is_refused_with_a_reason(made: Decided, reason: str) -> None:
    assert await refused(made) == reason


async def test_an_explanation_that_is_late_is_given_up_and_holds_nobody() -> None:
    gate = threading.Event()

    def wait() -> Attribution:
        gate.wait()
        return ATTRIBUTION

    assert await refused(decided(Scorer()), time.perf_counter() - 1) == "no_time"
    # The clock stands still, so that none has lost its time before it is asked for.
    explainer = Explainer(PATIENT, steady_s=lambda: 0.0)
    try:
        async with asyncio.timeout(60):
            late = await Explainer(USECASE).explain(decided(Scorer(wait)), 3)
            outcomes = await asyncio.gather(*(explainer.explain(decided(Scorer(wait)), 3, 0.025) for _ in range(20)))
        # All are answered while the first of them still runs.
        assert explainer._pending == explaining._PENDING
    finally:
        gate.set()
    assert late.unexplained == "no_time"
    reasons = [outcome.unexplained for outcome in outcomes]
    assert reasons == ["no_time"] * explaining._PENDING + ["overloaded"] * (20 - explaining._PENDING)
    async with asyncio.timeout(60):
        while explainer._pending:
            await asyncio.sleep(0.001)
    assert not (await explainer.explain(decided(Scorer()), 3)).unexplained


async def test_explanations_take_their_share_of_the_processor_and_no_more() -> None:
    now_s = [0.0]

    def spend() -> Attribution:
        now_s[0] += 0.1
        return ATTRIBUTION

    explainer, made = Explainer(PATIENT, steady_s=lambda: now_s[0]), decided(Scorer(spend))
    begun = now_s[0]
    explained = 0
    while now_s[0] < begun + 100:
        outcome = (await explainer.explain(made, 1)).unexplained
        explained += outcome == ""
        now_s[0] += 0.01 * (outcome != "")
    assert explained * 0.1 == pytest.approx(100 * explaining.SHARE, rel=0.05)
