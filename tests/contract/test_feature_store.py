"""What every feature store must do, asked of the one in memory and of Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.adapters.redis_store import RedisFeatureReader, RedisFeatureWriter
from flywheel.kernel.attributes import AttributeRow, Loaded
from flywheel.kernel.edge import edge_header, unpack_edge
from flywheel.kernel.features import join_id
from flywheel.kernel.plan import FIXED_CELLS, FeaturePlan, compile_plan
from flywheel.kernel.ports import (
    Answer,
    FeatureReader,
    FeatureWriter,
    Lane,
    Question,
    StateWrite,
    Stored,
    StoreProgress,
    Unavailable,
    ViewKey,
)
from flywheel.kernel.rows import MARK, TIE, Cells
from flywheel.kernel.state import mark_of
from tests import wide_declaration
from tests.attribute_scene import PLAN as ATTRIBUTE_PLAN
from tests.attribute_scene import PROFILE, SEGMENTS, TRUST, USECASE, profile
from tests.serving_parts import AT_US, payment
from usecases.fraud import usecase
from usecases.fraud.events import Transaction

PLAN = compile_plan(usecase)
VIEW = PLAN.views[0]
CARD = ViewKey("fraud_card_tiles", "c1")
TERMINAL = ViewKey("fraud_terminal_tiles", "c1")
NOTHING = Stored()


class Store(NamedTuple):
    writer: FeatureWriter
    reader: Callable[[], FeatureReader]


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.engine)])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    yield from opened(request, PLAN)


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.engine)])
def attribute_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """One for a use case that has attributes."""
    yield from opened(request, ATTRIBUTE_PLAN)


def opened(request: pytest.FixtureRequest, plan: FeaturePlan) -> Iterator[Store]:
    """An empty store of the fixture's kind."""
    if request.param == "memory":
        memory = MemoryFeatureStore(plan)
        yield Store(memory, memory.reader)
        return
    url = request.getfixturevalue("redis_server")
    with redis.Redis.from_url(url) as client:
        client.flushdb()
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


def test_an_empty_store_holds_nothing(store: Store) -> None:
    assert read(store, CARD, TERMINAL) == ([NOTHING, NOTHING], None)
    assert store.writer.read([CARD]) == [NOTHING]
    assert store.writer.counters() == {}
    assert store.writer.absorbed() == {}
    assert store.writer.source() is None


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 20_000])
def test_a_written_state_comes_back_on_both_sides(store: Store, size: int) -> None:
    state = bytes(number % 256 for number in range(size))
    assert store.writer.write({CARD: StateWrite(state, 1_522_540_800_000_001)}, {}) == []
    assert store.writer.read([TERMINAL, CARD]) == [NOTHING, Stored(state)]
    assert read(store, CARD, TERMINAL)[0] == [Stored(state), NOTHING]


def test_a_newer_state_replaces_the_older(store: Store) -> None:
    store.writer.write({CARD: StateWrite(b"old", 1)}, {})
    store.writer.write({CARD: StateWrite(b"new", 2, replaces=b"old"), TERMINAL: StateWrite(b"other", 2)}, {})
    assert read(store, TERMINAL, CARD, CARD)[0] == [Stored(b"other"), Stored(b"new"), Stored(b"new")]


def test_a_state_that_is_another_by_now_is_not_replaced_and_nothing_is_counted(store: Store) -> None:
    store.writer.write({CARD: StateWrite(b"first version", 1)}, {})
    late = {TERMINAL: StateWrite(b"other", 1), CARD: StateWrite(b"second", 2, replaces=b"some other")}
    assert store.writer.write(late, {"counter": 1}) == [CARD]
    assert store.writer.read([CARD, TERMINAL]) == [Stored(b"first version"), NOTHING]
    assert store.writer.write({CARD: StateWrite(b"second", 2)}, {}) == [CARD]
    assert store.writer.counters() == {}


def test_counters_add_up(store: Store) -> None:
    store.writer.write({CARD: StateWrite(b"", 1)}, {"fraud_card_tiles.transaction": 2})
    store.writer.write({}, {"fraud_card_tiles.transaction": 3, "fraud_card_tiles.chargeback": 1})
    assert store.writer.counters() == {"fraud_card_tiles.transaction": 5, "fraud_card_tiles.chargeback": 1}


def test_an_edge_keeps_rows_in_the_order_of_their_arrival(store: Store) -> None:
    assert store.writer.append({CARD: rows((3, 0, 7)), TERMINAL: b""}, {})[CARD] == 1
    assert store.writer.append({CARD: rows((1, 1, 0), (2, 0, 9))}, {}) == {CARD: 3}
    assert edge(store) == [3, 1, 2]


def test_an_event_that_comes_again_is_passed_over(store: Store) -> None:
    store.writer.append({CARD: rows((5, 0, 7), (5, 0, 8))}, {})
    assert store.writer.append({CARD: rows((5, 0, 7), (6, 0, 9))}, {}) == {CARD: 2}
    remembered = (77).to_bytes(8, "little")
    store.writer.write({CARD: StateWrite(b"header 1" + remembered + b"version.", 1)}, {})
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
    states = {ViewKey(view.name, f"e{n}"): StateWrite(b"s", 1) for n in range(250) for view in PLAN.views}
    store.writer.write(states, {"counter": 1})
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
    writer.write({key: StateWrite(b"s", 1) for key in keys}, {})
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
    store.writer.write({CARD: StateWrite(b"header 1" + remembered + b"version.", 1)}, {})
    store.writer.append({CARD: rows((5, 0, 1), (2, 0, 2))}, {})
    arrivals = [(place % 650, 0, 3 + place) for place in range(number)]
    known = {2, 5, *range(3, 700, 50)}
    wanted = [5, 2, *(tie for tie in dict.fromkeys(tie for tie, _, _ in arrivals) if tie not in known)]
    assert store.writer.append({CARD: rows(*arrivals), TERMINAL: b""}, {}) == {CARD: len(wanted), TERMINAL: 0}
    assert edge(store) == wanted


@pytest.mark.parametrize("newest_us", [0, 999_999, 1_522_540_800_000_001, 2**50])
def test_a_state_goes_once_nothing_of_it_is_read_any_more(store: Store, newest_us: int) -> None:
    store.writer.write({CARD: StateWrite(b"state", newest_us), TERMINAL: StateWrite(b"other", 2**51)}, {})
    last_read_us = newest_us + VIEW.lifetime_us
    assert store.writer.forget([CARD, TERMINAL, ViewKey(VIEW.name, "unknown")], last_read_us) == 0
    assert store.writer.read([CARD]) == [Stored(b"state")]
    assert store.writer.forget([CARD, TERMINAL], last_read_us + 1_000_000) == 1
    assert store.writer.read([CARD, TERMINAL]) == [NOTHING, Stored(b"other")]
    assert store.writer.write({CARD: StateWrite(b"again", newest_us)}, {}) == []
    assert store.writer.forget([CARD], last_read_us + 1_000_000) == 1


def test_an_entity_with_an_edge_is_not_forgotten(store: Store) -> None:
    store.writer.write({CARD: StateWrite(b"state", 1)}, {})
    store.writer.append({CARD: rows((1, 0, 1))}, {})
    assert store.writer.forget([CARD], 2**52) == 0
    store.writer.trim([CARD], {0: mark_of(0, 2)})
    assert store.writer.forget([CARD], 2**52) == 1


@pytest.mark.engine
def test_nothing_goes_by_the_clock_of_the_wall_and_what_others_keep_of_an_entity_stays(redis_server: str) -> None:
    writer = RedisFeatureWriter(redis_server, PLAN)
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
        writer.append({CARD: rows((1, 0, 1))}, {})
        writer.write({CARD: StateWrite(b"state", 1)}, {"counter": 1})
        assert {client.pttl(key) for key in client.keys("*")} == {-1}
        (key,) = client.keys("*c1*")
        client.hset(key, "of another view", "kept")
        writer.trim([CARD], {0: mark_of(0, 2)})
        assert writer.forget([CARD], 2**52) == 1
        assert client.hgetall(key) == {b"of another view": b"kept"}
        client.hset(key, f"_ts:{VIEW.name}", b"no time")
        assert writer.forget([CARD], 2**52) == 0
    writer.close()


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


def test_marks_are_what_was_published_last(store: Store) -> None:
    assert store.writer.absorb({0: 5, 1: mark_of(1, 2**33)}, None)
    assert store.writer.absorb({0: 7}, None)
    assert store.writer.absorbed() == {0: 7, 1: mark_of(1, 2**33)}


def test_nothing_is_said_of_a_store_that_was_emptied_or_is_another_s(store: Store) -> None:
    store.writer.claim("first")
    assert not store.writer.absorb({0: 5}, "second")
    assert not store.writer.absorb({0: 5}, None)
    store.writer.report(Lane.EDGE, StoreProgress(1, 2))
    assert (store.writer.absorbed(), read(store, CARD)[1]) == ({}, None)
    assert store.writer.absorb({0: 5}, "first")
    store.writer.report(Lane.EDGE, StoreProgress(1, 2))
    assert (store.writer.absorbed(), read(store, CARD)[1]) == ({0: 5}, StoreProgress(1, 2))


def test_progress_is_that_of_the_lane_that_is_further(store: Store) -> None:
    store.writer.absorb({0: 1}, None)
    store.writer.report(Lane.TILES, StoreProgress(1, 2))
    store.writer.report(Lane.TILES, StoreProgress(3, 4))
    assert read(store, CARD) == ([NOTHING], StoreProgress(3, 4))
    store.writer.report(Lane.EDGE, StoreProgress(9, 9))
    assert read(store, CARD) == ([NOTHING], StoreProgress(9, 9))


def test_the_first_source_keeps_the_store(store: Store) -> None:
    assert store.writer.claim("first") == "first"
    assert store.writer.claim("second") == "first"
    assert store.writer.source() == "first"


def test_a_store_that_is_handed_over_belongs_to_the_next_that_claims_it(store: Store) -> None:
    store.writer.claim("first")
    store.writer.absorb({0: 5}, "first")
    store.writer.report(Lane.EDGE, StoreProgress(1, 2))
    store.writer.hand_over("rebuild")
    assert (store.writer.absorbed(), read(store, CARD)[1]) == ({}, None)
    assert store.writer.claim("second") == "rebuild"
    store.writer.hand_over(None)
    assert store.writer.source() is None
    assert store.writer.claim("second") == "second"


def test_counters_can_be_set(store: Store) -> None:
    store.writer.write({}, {"a": 2, "b": 1})
    store.writer.recount({"a": 5})
    assert store.writer.counters() == {"a": 5}
    store.writer.recount({})
    assert store.writer.counters() == {}


async def test_a_store_that_is_away_is_unavailable(unused_tcp_port: int) -> None:
    url = f"redis://127.0.0.1:{unused_tcp_port}/0"
    reader, writer = RedisFeatureReader(url, PLAN), RedisFeatureWriter(url, PLAN)
    with pytest.raises(Unavailable):
        await reader.read(Question([CARD]), 0.2)
    with pytest.raises(Unavailable):
        writer.write({CARD: StateWrite(b"", 1)}, {})
    with pytest.raises(Unavailable):
        writer.append({CARD: rows((1, 0, 1))}, {})
    await reader.close()
    writer.close()


async def test_a_store_that_hangs_is_unavailable_in_time() -> None:
    async def never(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    reader = RedisFeatureReader(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", PLAN)
    started = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable, match="did not answer within"):
        await reader.read(Question([CARD]), 0.05)
    assert asyncio.get_running_loop().time() - started < 1.0
    await reader.close()
    server.close()


@pytest.mark.engine
async def test_many_reads_at_once_are_all_answered(redis_server: str) -> None:
    writer, reader = RedisFeatureWriter(redis_server, PLAN), RedisFeatureReader(redis_server, PLAN)
    key = ViewKey("fraud_card_tiles", "many")
    writer.write({key: StateWrite(b"state", 1)}, {})
    answers = await asyncio.gather(*(reader.read(Question([key]), 5.0) for _ in range(128)))
    assert [answer.stored for answer in answers] == [[Stored(b"state")]] * 128
    await reader.close()
    writer.close()


@pytest.mark.engine
async def test_reads_that_gave_up_waiting_leave_the_connection_usable(redis_server: str) -> None:
    reader = RedisFeatureReader(redis_server, PLAN)
    await asyncio.gather(*(reader.read(Question([CARD]), 0.0005 * n) for n in range(40)), return_exceptions=True)
    answers = await asyncio.gather(*(reader.read(Question([CARD]), 5.0) for _ in range(8)))
    assert len(answers) == 8
    await reader.close()


@pytest.mark.engine
@pytest.mark.parametrize("stored", ["", "soon", "1.5", "9" * 400])
async def test_a_progress_that_cannot_be_read_is_unknown(redis_server: str, stored: str) -> None:
    writer, reader = RedisFeatureWriter(redis_server, PLAN), RedisFeatureReader(redis_server, PLAN)
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
        writer.absorb({0: 1}, None)
        writer.report(Lane.TILES, StoreProgress(1, 2))
        client.hset(f"{usecase.name}:progress", "tiles_visible_until_us", stored)
    assert await reader.read(Question([CARD]), 2.0) == Answer([NOTHING], None)
    await reader.close()
    writer.close()


def loaded_of(answer: Answer) -> dict[str, Loaded]:
    """By table."""
    pairs = zip(USECASE.attribute_reads, answer.attributes, strict=True)
    return {loaded.table.name: loaded for read, found in pairs for loaded in read.loaded(found)}


def test_attributes_are_read_beside_the_states(attribute_store: Store) -> None:
    terminal = ViewKey("fraud_terminal_tiles", "t1")
    attribute_store.writer.write({terminal: StateWrite(b"state", 5)}, {})
    attribute_store.writer.put(PROFILE, [profile("t1", AT_US - 1_000, 5.0, None), profile("t2", AT_US, 6.0, 7.0)])
    attribute_store.writer.put(PROFILE, [profile("t1", AT_US, 8.0, None)])
    attribute_store.writer.put(TRUST, [AttributeRow(("t1", "c1"), AT_US, (0.5,))])
    event = Transaction.model_validate_json(payment())
    requests = [read.request(event) for read in USECASE.attribute_reads]
    answer = asked(attribute_store, Question([terminal], requests))
    assert answer.stored == [Stored(b"state")]
    tables = loaded_of(answer)
    assert {name: (one.status, one.values, one.age_ms) for name, one in tables.items() if name != SEGMENTS.name} == {
        "terminal_profile": ("fresh", {"terminal_floor_limit_cents": 8.0, "terminal_opened_days": -1.0}, 0.0),
        "trust": ("fresh", {"pair_share": 0.5}, 0.0),
    }
    assert (tables[SEGMENTS.name].status, tables[SEGMENTS.name].values) == ("missing", {"card_rank": -2.0})


def test_attributes_stay_when_the_state_beside_them_is_forgotten(attribute_store: Store) -> None:
    writer, terminal = attribute_store.writer, ViewKey("fraud_terminal_tiles", "t1")
    writer.write({terminal: StateWrite(b"state", 5)}, {})
    writer.put(PROFILE, [profile("t1", AT_US)])
    assert writer.forget([terminal], AT_US) == 1
    event = Transaction.model_validate_json(payment())
    requests = [read.request(event) for read in USECASE.attribute_reads]
    answer = asked(attribute_store, Question([terminal], requests))
    assert answer.stored == [NOTHING]
    assert loaded_of(answer)["terminal_profile"].values == {
        "terminal_floor_limit_cents": 5_000.0,
        "terminal_opened_days": 400.0,
    }
