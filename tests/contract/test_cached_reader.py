"""The reader that remembers, before either store: it answers what the store answers, and asks for less."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
import redis

from flywheel.adapters.cached_reader import CachedReader
from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.adapters.redis_store import RedisFeatureReader, RedisFeatureWriter
from flywheel.kernel.ports import Answer, FeatureReader, FeatureWriter, Question
from flywheel.kernel.stored import StoredColumns, StoredRequest
from tests.ranking_declaration import COLUMNS, ITEMS, PLAN, USECASE, USERS, declared, item, rows, user

AT_US = 1_700_000_000_000_000
CACHED = declared(cached_for="5s")


class Store:
    """A store whose reader remembers, by a clock of its own."""

    def __init__(self, writer: FeatureWriter, reader: FeatureReader) -> None:
        self.now_s = 0.0
        self.looks: list[tuple[str, int, int, float]] = []
        self.writer = writer
        self.plain = reader
        self.cached = CachedReader(
            reader,
            CACHED,
            capacity=100,
            steady_s=lambda: self.now_s,
            on_lookup=lambda *look: self.looks.append(look),
        )


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.engine)])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "memory":
        memory = MemoryFeatureStore(PLAN)
        yield Store(memory, memory.reader())
        return
    url = request.getfixturevalue("redis_server")
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    writer = RedisFeatureWriter(url, PLAN)
    yield Store(writer, RedisFeatureReader(url, PLAN))
    writer.close()


def _question(items: list[str], at_us: int = AT_US) -> Question:
    return Question((), [StoredRequest({"user_id": [user(0)]}, at_us), StoredRequest({"item_id": items}, at_us)])


def _same(found: Answer, wanted: Answer) -> bool:
    pairs = zip(found.attributes, wanted.attributes, strict=True)
    return all(
        np.array_equal(getattr(one, part), getattr(other, part), equal_nan=True)
        for one, other in pairs
        for part in StoredColumns._fields
    )


def test_items_are_asked_for_once_and_users_each_time(store: Store) -> None:
    store.writer.put(USERS, rows("user", 1, AT_US - 1))
    store.writer.put(ITEMS, rows("item", 5, AT_US - 2_500))

    async def scene() -> None:
        for number, late_us in ((3, 0), (5, 0), (5, 7_000_000)):
            asked = _question([*map(item, range(number)), "item-nobody-knows"], AT_US + late_us)
            assert _same(await store.cached.read(asked, 2), await store.plain.read(asked, 2))
        store.writer.put(USERS, rows("user", 1, AT_US, seed=1))
        store.writer.put(ITEMS, rows("item", 5, AT_US, seed=1))
        asked = _question([item(1)])
        found, wanted = await store.cached.read(asked, 2), await store.plain.read(asked, 2)
        assert found.attributes[0].values.tolist() == wanted.attributes[0].values.tolist()
        assert found.attributes[1].age_ms.tolist() == [[2.5]]
        store.now_s = 5.0
        assert _same(await store.cached.read(asked, 2), wanted)
        await store.cached.close()

    asyncio.run(scene())
    assert store.looks == [
        ("item", 0, 4, 0),
        ("item", 4, 2, 0),
        ("item", 6, 0, 0),
        ("item", 1, 0, 0),
        ("item", 0, 1, 0),
    ]


def test_nothing_is_remembered_unless_it_is_declared() -> None:
    memory = MemoryFeatureStore(PLAN)
    memory.put(ITEMS, rows("item", 1, AT_US))
    reader = CachedReader(memory.reader(), USECASE, capacity=9, steady_s=lambda: 0.0)

    async def scene() -> None:
        before = await reader.read(_question([item(0)]), 1)
        memory.put(ITEMS, rows("item", 1, AT_US, seed=1))
        assert not _same(await reader.read(_question([item(0)]), 1), before)

    asyncio.run(scene())
    assert len(USECASE.feature_names) == 2 * COLUMNS
