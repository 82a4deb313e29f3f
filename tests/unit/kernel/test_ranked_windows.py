"""Windows of a ranking: of the context read and folded once, of each candidate by itself, all as of a subject alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.kernel.decision import Answered, DecisionRequest
from flywheel.kernel.decision.ranker import Ranker
from flywheel.kernel.decision.shortlist import Ranked
from flywheel.kernel.hydration import Hydrator, Subject
from flywheel.kernel.lineup import Lineup, LoadedModel
from flywheel.kernel.ports import Answer, Lane, Question, StateWrite, Stored, StoreProgress, ViewKey
from flywheel.kernel.ranking import Ranking
from flywheel.kernel.subject import read_subject
from flywheel.kernel.timing import Clock
from tests.serving_parts import AT_US, PLAN, USECASE, VIEWS, Past, packed, payment

RANKS = dataclasses.replace(USECASE, policy=Ranking("terminal_id", keep=9))
TERMINALS = ("t1", "t2", "t3", "nobody")


class Constant:
    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.full(len(rows), 0.5)


class Silent:
    def features_unavailable(self, reason: str) -> None: ...

    def foreign_state(self, reason: str) -> None: ...

    def model_failed(self, version: str, reason: str) -> None: ...

    def unanswered(self, late: Answered, model_ms: float | None) -> None: ...


class Counting:
    """Counts what the store is asked for."""

    def __init__(self, store: MemoryFeatureStore) -> None:
        self._reader = store.reader()
        self.asked: list[list[str]] = []

    async def read(self, question: Question, timeout_s: float) -> Answer:
        self.asked.append([key.entity_id for key in question.keys])
        return await self._reader.read(question, timeout_s)

    async def close(self) -> None: ...


def _store() -> MemoryFeatureStore:
    """A card with payments at three terminals, each with its own past."""
    store = MemoryFeatureStore(PLAN)
    pasts = {
        ("card", "c1"): [Past("a", 30, 1_000), Past("b", 4_000, 2_000)],
        ("terminal", "t1"): [Past("a", 30, 1_000)],
        ("terminal", "t2"): [Past("c", 600, 500), Past("d", 90_000, 70)],
        ("terminal", "t3"): [Past("e", 3_000_000, 9)],
    }
    for (view, entity), past in pasts.items():
        store.write({ViewKey(VIEWS[view].name, entity): StateWrite(packed(VIEWS[view], past), AT_US)})
    store.absorb({0: 1}, None)
    store.report(Lane.TILES, StoreProgress(AT_US + 1, AT_US))
    return store


async def test_every_row_is_what_a_decision_about_that_candidate_alone_would_read() -> None:
    store = _store()
    reader = Counting(store)
    ranker = Ranker(
        RANKS,
        reader,
        lambda: Lineup(LoadedModel("v1", Constant())),
        clock=Clock(wall_us=lambda: AT_US, steady_s=lambda: 0.0),
        new_id=lambda: "id",
        observer=Silent(),
    )
    context = payment(terminal_id=None)
    (ranked,) = await ranker.decide([DecisionRequest(context, candidates=TERMINALS)])
    assert isinstance(ranked, Ranked)
    assert reader.asked == [["c1", *TERMINALS]]
    hydrator = Hydrator(USECASE)
    for place, terminal in enumerate(TERMINALS):
        event = read_subject(USECASE.request, orjson.dumps({**orjson.loads(context), "terminal_id": terminal}), AT_US)
        subject = Subject(event)
        alone = hydrator.hydrate([subject], await store.reader().read(hydrator.question([subject]), 1), AT_US)
        np.testing.assert_array_equal(ranked.hydrated.rows[place], alone.rows[0])
        assert ranked.hydrated.statuses(place) == alone.statuses(0)
    assert ranked.statuses == {"card": {"fresh": 4}, "terminal": {"fresh": 3, "missing": 1}}


def test_what_memory_held_before_is_no_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = np.empty

    def used(shape: Any, dtype: Any = float) -> Any:
        found = empty(shape, dtype)
        if found.dtype == np.float64:
            found.fill(1e300)
        return found

    monkeypatch.setattr(np, "empty", used)
    # Without a feature that is computed values are narrowed to the model's type at once.
    read_only = dataclasses.replace(USECASE, features=USECASE.windowed, reasons=())
    hydrator, subject = Hydrator(read_only), Subject(read_subject(USECASE.request, payment(), AT_US))
    corrupt = [Stored(state=b"FWT1 not a state") for _ in hydrator.question([subject]).keys]
    found = hydrator.hydrate([subject], Answer(corrupt, StoreProgress(AT_US + 1, AT_US)), AT_US)
    assert len(found.foreign) == len(corrupt)
    np.testing.assert_array_equal(found.rows, hydrator.unavailable([subject]).rows)
