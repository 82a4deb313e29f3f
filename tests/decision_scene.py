"""A decider on in-memory parts and clocks moved by hand, for tests of the decision pipeline."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.kernel.decision import Answered, Decided, Decider, DecisionRequest, Refused
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.lineup import Lineup, LoadedModel
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ports import Answer, FeatureReader, Lane, Question, StoreProgress, Unavailable, ViewKey
from flywheel.kernel.timing import Clock
from tests.serving_parts import AT_US, USECASE, VIEWS, Past, packed, payment

NOW_US = AT_US + 60_000_000


class Ticking:
    """Clocks moved by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def clock(self) -> Clock:
        return Clock(wall_us=lambda: NOW_US, steady_s=lambda: self.now_s)


class Fixed:
    """A model that always gives the same score and keeps what it was shown."""

    def __init__(self, score: float) -> None:
        self._score = score
        self.rows: list[NDArray[np.float32]] = []

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        self.rows.append(rows)
        return np.full(len(rows), self._score)


class Broken:
    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        raise RuntimeError(f"no scores for {rows.shape}")


class Notes:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def features_unavailable(self, reason: str) -> None:
        self.notes.append(f"features_unavailable: {reason}")

    def foreign_state(self, reason: str) -> None:
        self.notes.append(f"foreign_state: {reason}")

    def model_failed(self, version: str, reason: str) -> None:
        self.notes.append(f"model_failed: {version} {reason}")

    def unanswered(self, late: Answered, model_ms: float | None) -> None:
        self.notes.append(f"late: {late.arm.value} {late.model_version} {model_ms}")


class Slow:
    """A store that takes its time, on the hand-moved clock, and gives up at the timeout."""

    def __init__(self, inner: FeatureReader, time: Ticking, takes_ms: float) -> None:
        self._inner = inner
        self._time = time
        self._takes_ms = takes_ms
        self.timeouts_ms: list[float] = []

    async def read(self, question: Question, timeout_s: float) -> Answer:
        self.timeouts_ms.append(timeout_s * 1000)
        self._time.now_s += min(self._takes_ms, timeout_s * 1000) / 1000
        if self._takes_ms > timeout_s * 1000:
            raise Unavailable("too slow")
        return await self._inner.read(question, timeout_s)

    async def close(self) -> None: ...


class Scene:
    """A decider and everything around it."""

    def __init__(self, score: float = 0.01, usecase: UseCase = USECASE) -> None:
        self.usecase = usecase
        self.store = MemoryFeatureStore(compile_plan(usecase))
        self.store.progress = {Lane.EDGE: StoreProgress(NOW_US - 1_500_000, NOW_US)}
        self.time = Ticking()
        self.model = Fixed(score)
        self.lineup = Lineup(LoadedModel("v1", self.model), sequence=1)
        self.reader: FeatureReader = self.store.reader()
        self.observer = Notes()

    def remember(self, entity: str, entity_id: str, past: Sequence[Past]) -> None:
        self.store.states[ViewKey(VIEWS[entity].name, entity_id)] = packed(VIEWS[entity], past)

    def request(self, raw: bytes | None = None, patience_ms: float = math.inf) -> DecisionRequest:
        deadline_s = self.time.now_s + patience_ms / 1000
        return DecisionRequest(payment() if raw is None else raw, deadline_s=deadline_s)

    async def decide(self, raw: bytes | None = None, patience_ms: float = math.inf) -> Decided:
        (outcome,) = await self.decide_all([self.request(raw, patience_ms)])
        if isinstance(outcome, Refused):
            raise outcome.error
        return outcome

    async def decide_all(self, requests: Sequence[DecisionRequest]) -> list[Decided | Refused]:
        return await self.decider().decide(requests)

    def decider(self) -> Decider:
        ids = map(str, itertools.count())
        return Decider(
            self.usecase,
            self.reader,
            lambda: self.lineup,
            clock=self.time.clock(),
            new_id=lambda: next(ids),
            observer=self.observer,
        )


def values(decision: Decided) -> dict[str, float]:
    return dict(zip(decision.feature_names, decision.features, strict=True))
