"""A start makes the whole path warm, and leaves no trace of it."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from flywheel.adapters.request_ids import new_id
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.lineup import Lineup, LoadedModel
from flywheel.kernel.ports import Answer, FeatureReader, Question, Unavailable
from services.serving.bootstrap import CLOCK
from services.serving.decisions.warming import WarmUp
from tests import attribute_scene
from tests.decision_scene import Fixed, Scene
from tests.ranking_declaration import USECASE as RANKING
from tests.serving_parts import USECASE


class Asked:
    """A reader that counts its questions; away, it answers none."""

    def __init__(self, inner: FeatureReader, *, away: bool = False) -> None:
        self._inner = inner
        self._away = away
        self.questions: list[Question] = []

    async def read(self, question: Question, timeout_s: float) -> Answer:
        self.questions.append(question)
        if self._away:
            raise Unavailable("away")
        return await self._inner.read(question, timeout_s)

    async def close(self) -> None: ...


def samples() -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample of serving's own metrics."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if metric.name.startswith("flywheel_serving_")
    }


@pytest.mark.parametrize("usecase", [USECASE, attribute_scene.USECASE, RANKING], ids=lambda usecase: usecase.name)
async def test_reads_and_scores_of_all_kinds_are_made_and_nothing_is_told(usecase: UseCase) -> None:
    scene = Scene(usecase=usecase)
    reader, model = Asked(scene.reader), Fixed(0.5)
    lineup = Lineup(LoadedModel("v1", model), sequence=1)
    before = samples()
    with capture_logs() as lines:
        await WarmUp(usecase, reader, lambda: lineup, clock=CLOCK, new_id=new_id)()
    assert samples() == before
    assert lines == []
    assert len(reader.questions) >= 20
    assert {len(rows) > 1 for rows in model.rows} >= {True}
    assert all(rows.shape[1] == len(usecase.feature_names) for rows in model.rows)


async def test_a_store_that_is_away_does_not_hold_up_the_start() -> None:
    reader = Asked(Scene().reader, away=True)
    await WarmUp(USECASE, reader, Lineup, clock=CLOCK, new_id=new_id)()
    assert len(reader.questions) == 4
