"""Feature stores of both kinds, and what they are asked, for the suite that holds for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import pytest

from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.adapters.redis_cluster_client import open_client
from flywheel.adapters.redis_store import RedisFeatureReader, RedisFeatureWriter
from flywheel.kernel.edge import unpack_edge
from flywheel.kernel.plan import FIXED_CELLS, FeaturePlan, compile_plan
from flywheel.kernel.ports import (
    Answer,
    FeatureReader,
    FeatureWriter,
    Question,
    Stored,
    ViewKey,
)
from flywheel.kernel.rows import MARK, TIE, Cells
from flywheel.kernel.state import mark_of
from usecases.fraud import usecase

PLAN = compile_plan(usecase)

VIEW = PLAN.views[0]

CARD = ViewKey("fraud_card_tiles", "c1")

TERMINAL = ViewKey("fraud_terminal_tiles", "c1")

NOTHING = Stored()


class Store(NamedTuple):
    writer: FeatureWriter
    reader: Callable[[], FeatureReader]


KINDS = ["memory", *(pytest.param(kind, marks=pytest.mark.engine) for kind in ("redis", "redis-cluster"))]


def opened(request: pytest.FixtureRequest, plan: FeaturePlan) -> Iterator[Store]:
    """An empty store of the fixture's kind."""
    if request.param == "memory":
        memory = MemoryFeatureStore(plan)
        yield Store(memory, memory.reader)
        return
    url = request.getfixturevalue({"redis": "redis_server", "redis-cluster": "redis_cluster_url"}[request.param])
    with closing(open_client(url)) as client:
        for node in client.nodes():
            node.flushdb()
    writer = RedisFeatureWriter(url, plan)
    yield Store(writer, lambda: RedisFeatureReader(url, plan))
    writer.close()


def asked(store: Store, question: Question) -> Answer:
    async def once() -> Answer:
        reader = store.reader()
        try:
            return await reader.read(question, 2.0)
        finally:
            await reader.close()

    return asyncio.run(once())


def read(store: Store, *keys: ViewKey) -> Any:
    return asked(store, Question(keys))[:2]


def rows(*arrivals: tuple[int, int, int]) -> bytes:
    """Packed rows of (id hash, partition, offset)."""
    found = np.zeros((len(arrivals), VIEW.row_cells), np.int64)
    for place, (tie, partition, offset) in enumerate(arrivals):
        found[place, TIE], found[place, MARK] = tie, mark_of(partition, offset)
        found[place, FIXED_CELLS:] = tie
    return found.tobytes()


def edge(store: Store, key: ViewKey = CARD) -> list[int]:
    """Id hashes in an edge."""
    (stored,) = store.writer.read([key])
    return [] if stored.edge is None else _ties(unpack_edge(VIEW, stored.edge))


def _ties(found: Cells) -> list[int]:
    return [int(tie) for tie in found[:, TIE]]
