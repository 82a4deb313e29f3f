"""What every feature store does with the rows on an entity's edge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.kernel.edge import edge_header
from flywheel.kernel.features import join_id
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ports import (
    FeatureWriter,
    StateWrite,
    ViewKey,
)
from flywheel.kernel.rows import MARK, TIE
from flywheel.kernel.state import mark_of
from tests import wide_declaration
from tests.feature_stores import CARD, NOTHING, PLAN, TERMINAL, VIEW, Store, edge, rows


def test_an_edge_keeps_rows_in_the_order_of_their_arrival(store: Store) -> None:
    assert store.writer.append({CARD: rows((3, 0, 7)), TERMINAL: b""}, {})[CARD] == 1
    assert store.writer.append({CARD: rows((1, 1, 0), (2, 0, 9))}, {}) == {CARD: 3}
    assert edge(store) == [3, 1, 2]


def test_an_event_that_comes_again_is_passed_over(store: Store) -> None:
    store.writer.append({CARD: rows((5, 0, 7), (5, 0, 8))}, {})
    assert store.writer.append({CARD: rows((5, 0, 7), (6, 0, 9))}, {}) == {CARD: 2}
    remembered = (77).to_bytes(8, "little")
    store.writer.write({CARD: StateWrite(b"header 1" + remembered + b"version.", 1)})
    assert store.writer.append({CARD: rows((77, 0, 10))}, {}) == {CARD: 2}
    assert edge(store) == [5, 6]


def test_absorbed_rows_leave_the_edge(store: Store) -> None:
    store.writer.append({CARD: rows((1, 0, 5), (2, 1, 5), (3, 0, 6))}, {})
    assert store.writer.trim([CARD, TERMINAL], {0: mark_of(0, 6)}) == [CARD]
    assert edge(store) == [2, 3]
    store.writer.append({CARD: rows((4, 1, 6))}, {0: mark_of(0, 7), 1: mark_of(1, 6)})
    assert edge(store) == [4]
    assert store.writer.trim([CARD], {1: mark_of(1, 7)}) == []
    assert store.writer.read([CARD]) == [NOTHING]


def test_of_many_edges_those_that_hold_rows_yet_are_told(store: Store) -> None:
    keys = [ViewKey(view.name, f"e{n}") for n in range(150) for view in PLAN.views]
    for key in keys:
        width = {view.name: view.row_cells for view in PLAN.views}[key.view]
        row = np.zeros((1, width), np.int64)
        row[0, TIE], row[0, MARK] = 7, mark_of(0, int(key.entity_id[1:]))
        store.writer.append({key: row.tobytes()}, {})
    waiting = [key for key in keys if int(key.entity_id[1:]) >= 100]
    assert sorted(map(repr, store.writer.trim(keys, {0: mark_of(0, 100)}))) == sorted(map(repr, waiting))
    assert [stored.edge is not None for stored in store.writer.read(keys)] == [key in waiting for key in keys]


def test_a_walk_comes_by_every_entity_that_was_there_all_the_time(store: Store) -> None:
    states = {
        ViewKey(view.name, f"e{n}"): StateWrite(b"s", 1, counted={"c": 1}) for n in range(250) for view in PLAN.views
    }
    store.writer.write(states)
    store.writer.append({CARD: rows((1, 0, 1))}, {})
    store.writer.absorb({0: 1}, None)
    found, after, steps = set(), 0, 0
    while steps == 0 or after:
        keys, after = store.writer.entities(after)
        found.update(keys)
        store.writer.append({ViewKey(VIEW.name, f"new-{steps}"): rows((1, 0, 1))}, {})
        steps += 1
    assert steps > 2
    assert found >= {*states, CARD}
    assert all(key in states or key == CARD or key.entity_id.startswith("new-") for key in found)


@pytest.mark.engine
def test_an_edge_of_another_declaration_goes(redis_server: str) -> None:
    writer = RedisFeatureWriter(redis_server, PLAN)
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
        writer.append({CARD: rows((1, 0, 1))}, {})
        (key,) = client.keys("*c1*")
        ((field, value),) = client.hgetall(key).items()
        client.hset(key, field, value.replace(edge_header(VIEW), bytes(len(edge_header(VIEW)))))
        assert writer.trim([CARD], {}) == []
        assert writer.read([CARD]) == [NOTHING]
        client.hset("of another project", field, value)
        assert writer.entities(0) == ([], 0)
    writer.close()


@pytest.mark.engine
def test_a_walk_names_entities_of_several_keys_as_the_lanes_do(redis_server: str) -> None:
    plan = compile_plan(wide_declaration.USECASE)
    writer = RedisFeatureWriter(redis_server, plan)
    keys = [ViewKey(view.name, join_id(["b1", "s1"][: len(view.entity.keys)])) for view in plan.views]
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
    writer.write({key: StateWrite(b"s", 1) for key in keys})
    found, after = writer.entities(0)
    assert (sorted(map(repr, found)), after) == (sorted(map(repr, keys)), 0)
    writer.close()


def test_partitions_and_offsets_may_be_large(store: Store) -> None:
    far = 2**40 + 3
    store.writer.append({CARD: rows((1, 31 * 1024, far), (2, 31 * 1024, far + 1))}, {})
    store.writer.trim([CARD], {31 * 1024: mark_of(31 * 1024, far + 1)})
    assert edge(store) == [2]


@pytest.mark.parametrize("number", [1, 20, 100, 128, 129, 700])
def test_many_rows_at_once_are_kept_once_each_in_their_order(store: Store, number: int) -> None:
    remembered = b"".join(tie.to_bytes(8, "little") for tie in range(3, 700, 50))
    store.writer.write({CARD: StateWrite(b"header 1" + remembered + b"version.", 1)})
    store.writer.append({CARD: rows((5, 0, 1), (2, 0, 2))}, {})
    arrivals = [(place % 650, 0, 3 + place) for place in range(number)]
    known = {2, 5, *range(3, 700, 50)}
    wanted = [5, 2, *(tie for tie in dict.fromkeys(tie for tie, _, _ in arrivals) if tie not in known)]
    assert store.writer.append({CARD: rows(*arrivals), TERMINAL: b""}, {}) == {CARD: len(wanted), TERMINAL: 0}
    assert edge(store) == wanted


@pytest.mark.engine
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_edges_of_twin_and_redis_stay_the_same(redis_server: str, data: st.DataObject) -> None:
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
    stores: Sequence[FeatureWriter] = (MemoryFeatureStore(PLAN), RedisFeatureWriter(redis_server, PLAN))
    offset = 0
    marks: dict[int, int] = {}
    for _ in range(data.draw(st.integers(1, 8))):
        arrivals = []
        for _ in range(data.draw(st.integers(0, 5))):
            arrivals.append((data.draw(st.integers(1, 9)), data.draw(st.integers(0, 2)), offset))
            offset += 1
        if data.draw(st.booleans()):
            partition = data.draw(st.integers(0, 2))
            marks[partition] = mark_of(partition, data.draw(st.integers(0, offset)))
        lengths = [s.append({CARD: rows(*arrivals)}, marks) for s in stores]
        assert lengths[0] == lengths[1]
        if data.draw(st.booleans()):
            for s in stores:
                s.trim([CARD], marks)
        assert stores[0].read([CARD]) == stores[1].read([CARD])
