"""What every feature store must do, asked of the one in memory and of Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import redis

from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.adapters.redis_store import RedisFeatureReader, RedisFeatureWriter
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ports import FeatureReader, FeatureWriter, StoreProgress, Unavailable, ViewKey
from usecases.fraud import usecase

PLAN = compile_plan(usecase)
CARD = ViewKey("fraud_card_tiles", "c1")
TERMINAL = ViewKey("fraud_terminal_tiles", "c1")


class Store(NamedTuple):
    writer: FeatureWriter
    reader: FeatureReader


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.engine)])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "memory":
        memory = MemoryFeatureStore()
        yield Store(memory, memory.reader())
        return
    url = request.getfixturevalue("redis_server")
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    writer = RedisFeatureWriter(url, PLAN)
    yield Store(writer, RedisFeatureReader(url, PLAN))
    writer.close()


def read(store: Store, *keys: ViewKey) -> Any:
    async def once() -> Any:
        try:
            return await store.reader.read(keys, 2.0)
        finally:
            await store.reader.close()

    return asyncio.run(once())


def test_an_empty_store_holds_nothing(store: Store) -> None:
    assert read(store, CARD, TERMINAL) == ([None, None], None)
    assert store.writer.read([CARD]) == [None]
    assert store.writer.counters() == {}
    assert store.writer.source() is None


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 20_000])
def test_a_written_state_comes_back_on_both_sides(store: Store, size: int) -> None:
    state = bytes(number % 256 for number in range(size))
    store.writer.write({CARD: (state, 1_522_540_800_000_001)}, {})
    assert store.writer.read([TERMINAL, CARD]) == [None, state]
    assert read(store, CARD, TERMINAL)[0] == [state, None]


def test_a_newer_state_replaces_the_older(store: Store) -> None:
    store.writer.write({CARD: (b"old", 1)}, {})
    store.writer.write({CARD: (b"new", 2), TERMINAL: (b"other", 2)}, {})
    assert read(store, TERMINAL, CARD, CARD)[0] == [b"other", b"new", b"new"]


def test_counters_add_up(store: Store) -> None:
    store.writer.write({CARD: (b"", 1)}, {"fraud_card_tiles.transaction": 2})
    store.writer.write({}, {"fraud_card_tiles.transaction": 3, "fraud_card_tiles.chargeback": 1})
    assert store.writer.counters() == {"fraud_card_tiles.transaction": 5, "fraud_card_tiles.chargeback": 1}


def test_progress_is_what_was_reported_last(store: Store) -> None:
    store.writer.report(StoreProgress(1, 2))
    store.writer.report(StoreProgress(3, 4))
    assert read(store, CARD) == ([None], StoreProgress(3, 4))


def test_the_first_source_keeps_the_store(store: Store) -> None:
    assert store.writer.claim("first") == "first"
    assert store.writer.claim("second") == "first"
    assert store.writer.source() == "first"


async def test_a_store_that_is_away_is_unavailable(unused_tcp_port: int) -> None:
    url = f"redis://127.0.0.1:{unused_tcp_port}/0"
    reader, writer = RedisFeatureReader(url, PLAN), RedisFeatureWriter(url, PLAN)
    with pytest.raises(Unavailable):
        await reader.read([CARD], 0.2)
    with pytest.raises(Unavailable):
        writer.write({CARD: (b"", 1)}, {})
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
        await reader.read([CARD], 0.05)
    assert asyncio.get_running_loop().time() - started < 1.0
    await reader.close()
    server.close()


@pytest.mark.engine
async def test_more_reads_at_once_than_connections_are_all_answered(redis_server: str) -> None:
    writer, reader = RedisFeatureWriter(redis_server, PLAN), RedisFeatureReader(redis_server, PLAN, max_connections=16)
    writer.write({CARD: (b"state", 1)}, {})
    answers = await asyncio.gather(*(reader.read([CARD], 5.0) for _ in range(128)))
    assert [states for states, _ in answers] == [[b"state"]] * 128
    await reader.close()
    writer.close()


@pytest.mark.engine
async def test_reads_that_gave_up_waiting_leave_every_connection_usable(redis_server: str) -> None:
    reader = RedisFeatureReader(redis_server, PLAN, max_connections=2)
    await asyncio.gather(*(reader.read([CARD], 0.0005 * n) for n in range(40)), return_exceptions=True)
    answers = await asyncio.gather(*(reader.read([CARD], 5.0) for _ in range(8)))
    assert len(answers) == 8
    await reader.close()


@pytest.mark.engine
@pytest.mark.parametrize("stored", ["", "soon", "1.5", "9" * 400])
async def test_a_progress_that_cannot_be_read_is_unknown(redis_server: str, stored: str) -> None:
    writer, reader = RedisFeatureWriter(redis_server, PLAN), RedisFeatureReader(redis_server, PLAN)
    writer.write({CARD: (b"state", 1)}, {})
    writer.report(StoreProgress(1, 2))
    with redis.Redis.from_url(redis_server) as client:
        client.hset(f"{usecase.name}:progress", "visible_until_us", stored)
    assert await reader.read([CARD], 2.0) == ([b"state"], None)
    await reader.close()
    writer.close()
