"""The edge's walk over a real Redis, whatever wrote there before."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import redis

from flywheel.adapters.memory_erasures import MemoryErasures
from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ports import StateWrite, ViewKey
from services.features.edge.lane import EdgeLane
from services.features.edge.sweep import Sweep
from usecases.fraud import usecase

pytestmark = pytest.mark.engine

PLAN = compile_plan(usecase)
VIEW = PLAN.views[0]


@pytest.fixture
def writer(redis_server: str) -> Iterator[RedisFeatureWriter]:
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
    made = RedisFeatureWriter(redis_server, PLAN)
    yield made
    made.close()


def test_nothing_that_an_earlier_version_gave_a_time_to_live_vanishes(
    redis_server: str, writer: RedisFeatureWriter
) -> None:
    quiet, busy, edge_alone = (ViewKey(VIEW.name, name) for name in ("quiet", "busy", "edge-alone"))
    row = np.zeros((1, VIEW.row_cells), np.int64).tobytes()
    writer.write({quiet: StateWrite(b"state", 1), busy: StateWrite(b"state", 1)})
    writer.append({edge_alone: row}, {})
    with redis.Redis.from_url(redis_server) as client:
        keys = client.keys("*")
        for key in keys:
            client.pexpire(key, 60_000)
        writer.append({busy: row}, {})
        assert all(client.pttl(key) > 0 for key in keys)
        lane = EdgeLane(PLAN, writer, MemoryErasures(EraseKey(b"secret", usecase.name)))
        Sweep(usecase.name, lane, writer, lambda: 0.0).step(caught_up=False)
        assert {key: client.pttl(key) for key in keys} == dict.fromkeys(keys, -1)
    assert [(one.state, one.edge is None) for one in writer.read([quiet, busy, edge_alone])] == [
        (b"state", True),
        (b"state", False),
        (None, False),
    ]
