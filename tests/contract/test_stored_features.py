"""What every reader of plain stored features must do, asked of the one in memory and of Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple, Protocol, cast

import numpy as np
import pytest
import redis

from flywheel.adapters import feast_layout
from flywheel.adapters.feast_keys import EntityKeys
from flywheel.adapters.memory_stored import MemoryStoredFeatures
from flywheel.adapters.redis_connection import Commands, RedisConnection, RefusedCommand
from flywheel.adapters.redis_stored import RedisStoredReader
from flywheel.kernel.ports import Unavailable
from flywheel.kernel.stored import (
    JoinKey,
    KeyType,
    StoredColumns,
    StoredFeature,
    StoredFeatureReader,
    StoredRequest,
    StoredStatus,
    StoredView,
)
from flywheel.kernel.stored_plan import StoredPlan
from flywheel.kernel.stored_values import ScalarType, encode_scalar

PROJECT = "shop"
NOW_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000
TIMEOUT_S = 5.0
FRESH, STALE, MISSING, REFUSED = StoredStatus

USER = StoredView(
    "users",
    (JoinKey("user"),),
    (StoredFeature("spent"), StoredFeature("orders", ScalarType.INT64, 0), StoredFeature("staff", ScalarType.BOOL)),
    HOUR_US,
)
MOOD = StoredView("moods", (JoinKey("user"),), (StoredFeature("mood", ScalarType.FLOAT),))
ITEM = StoredView("items", (JoinKey("item", KeyType.INT64),), (StoredFeature("price", ScalarType.INT32),), HOUR_US)
TASTE = StoredView("tastes", (JoinKey("user"), JoinKey("item", KeyType.INT64)), (StoredFeature("taste"),))
PLAN = StoredPlan([USER, ITEM, TASTE, MOOD])
NAN = np.nan

Keys = Mapping[str, str | int]


class Writer(Protocol):
    def write(self, view: StoredView, keys: Keys, values: Mapping[str, float | None], time_us: int) -> None: ...

    def put(self, view: str, feature: str, keys: Keys, message: bytes) -> None: ...


class RedisWriter:
    """Writes as the twin in memory does."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def write(self, view: StoredView, keys: Keys, values: Mapping[str, float | None], time_us: int) -> None:
        for feature in view.features:
            if feature.name in values:
                self.put(view.name, feature.name, keys, encode_scalar(feature.type, values[feature.name]))
        time = feast_layout.encode_time(time_us)
        self._client.hset(self._hash(keys), feast_layout.time_field(view.name), time)  # type: ignore[arg-type]

    def put(self, view: str, feature: str, keys: Keys, message: bytes) -> None:
        self._client.hset(self._hash(keys), feast_layout.value_field(view, feature), message)  # type: ignore[arg-type]

    def _hash(self, keys: Keys) -> str:
        join_keys = {key.name: key for view in PLAN.views for key in view.join_keys}
        columns = [[value] for value in keys.values()]
        (key,) = EntityKeys(PROJECT, [join_keys[name] for name in keys]).encode(columns)
        return cast(str, key)  # The client's annotations forbid keys of bytes; Redis does not.


class Store(NamedTuple):
    writer: Writer
    reader: StoredFeatureReader
    refused: list[tuple[str, int]]

    async def read(self, **keys: list[str] | list[int]) -> StoredColumns:
        return await self.reader.read(StoredRequest(keys, NOW_US), TIMEOUT_S)


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.engine)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    refused: list[tuple[str, int]] = []

    def on_refused(view: str, rows: int) -> None:
        refused.append((view, rows))

    if request.param == "memory":
        memory = MemoryStoredFeatures(PLAN, on_refused=on_refused)
        yield Store(memory, memory, refused)
        return
    url = request.getfixturevalue("redis_server")
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        reader = RedisStoredReader(RedisConnection(url), PROJECT, PLAN, on_refused=on_refused)
        yield Store(RedisWriter(client), reader, refused)
        await reader.close()


async def test_an_empty_store_holds_nothing(store: Store) -> None:
    found = await store.read(user=["u"], item=[1, 2])
    np.testing.assert_array_equal(found.values, [[NAN, 0, NAN, NAN, NAN, NAN]] * 2)
    assert found.status.tolist() == [[MISSING] * 4] * 2
    assert np.isnan(found.age_ms).all()
    assert store.refused == []


async def test_what_was_written_comes_back_in_the_order_asked_for_duplicates_included(store: Store) -> None:
    for item in (1, 2, -3):
        store.writer.write(ITEM, {"item": item}, {"price": 10 * item}, NOW_US - 1_000 * abs(item))
        store.writer.write(TASTE, {"user": "ü", "item": item}, {"taste": item / 4}, NOW_US)
    store.writer.write(USER, {"user": "ü"}, {"spent": -0.5, "orders": 2**40, "staff": 1}, NOW_US - 7_000)
    store.writer.write(MOOD, {"user": "ü"}, {"mood": 0.25}, NOW_US - 8_000)
    asked = [2, -3, 9, 2, 1]
    found = await store.read(user=["ü"], item=asked)
    prices = [NAN if item == 9 else 10 * item for item in asked]
    tastes = [NAN if item == 9 else item / 4 for item in asked]
    expected = [[-0.5, 2**40, 1, price, taste, 0.25] for price, taste in zip(prices, tastes, strict=True)]
    np.testing.assert_array_equal(found.values, expected)
    known = [MISSING if item == 9 else FRESH for item in asked]
    assert found.status.tolist() == [[FRESH, status, status, FRESH] for status in known]
    np.testing.assert_array_equal(found.age_ms[:, :2], [[7, NAN if item == 9 else abs(item)] for item in asked])


async def test_expired_values_are_stale_not_old(store: Store) -> None:
    store.writer.write(USER, {"user": "a"}, {"spent": 1, "orders": 2, "staff": 0}, NOW_US - HOUR_US - 1)
    store.writer.write(USER, {"user": "b"}, {"spent": 3, "orders": 4, "staff": 1}, NOW_US - HOUR_US)
    store.writer.write(MOOD, {"user": "a"}, {"mood": 0.5}, NOW_US - 1_000 * HOUR_US)
    found = await store.read(user=["a", "b"], item=[1])
    np.testing.assert_array_equal(found.values[:, :3], [[NAN, 0, NAN], [3, 4, 1]])
    assert found.status[:, [0, 3]].tolist() == [[STALE, FRESH], [FRESH, MISSING]]
    assert found.values[0, 5] == 0.5


async def test_a_newer_write_takes_the_place_of_an_older(store: Store) -> None:
    store.writer.write(ITEM, {"item": 1}, {"price": 10}, NOW_US - 9_000)
    store.writer.write(ITEM, {"item": 1}, {"price": None}, NOW_US - 1_000)
    found = await store.read(user=["a"], item=[1])
    assert np.isnan(found.values[0, 3])
    assert (found.status[0, 1], found.age_ms[0, 1]) == (FRESH, 1)


async def test_foreign_bytes_are_refused_and_counted_and_leave_others_alone(store: Store) -> None:
    for user in ("a", "b", "c"):
        store.writer.write(USER, {"user": user}, {"spent": 1, "orders": 2, "staff": 0}, NOW_US)
        store.writer.write(MOOD, {"user": user}, {"mood": 0.5}, NOW_US)
    store.writer.put("users", "orders", {"user": "b"}, encode_scalar(ScalarType.DOUBLE, 2))
    store.writer.put("users", "spent", {"user": "c"}, b"\x29\x00")
    found = await store.read(user=["a", "b", "c", "b"], item=[1])
    np.testing.assert_array_equal(
        found.values[:, [0, 1, 2, 5]], [[1, 2, 0, 0.5], [NAN, 0, NAN, 0.5], [NAN, 0, NAN, 0.5], [NAN, 0, NAN, 0.5]]
    )
    assert found.status[:, [0, 3]].tolist() == [[FRESH, FRESH], [REFUSED, FRESH], [REFUSED, FRESH], [REFUSED, FRESH]]
    assert store.refused == [("users", 3)]


async def test_rows_beyond_a_few_read_alike(store: Store) -> None:
    for item in range(0, 300, 2):
        store.writer.write(ITEM, {"item": item}, {"price": item * 1_000 - 50_000}, NOW_US - item * 1_000_001)
    found = await store.read(user=["a"], item=list(range(300)))
    np.testing.assert_array_equal(found.values[::2, 3], np.arange(0, 300, 2) * 1_000 - 50_000)
    np.testing.assert_allclose(found.age_ms[::2, 1], np.arange(0, 300, 2) * 1_000.001)
    assert np.isnan(found.values[1::2, 3]).all()
    assert found.rows_with(MISSING).tolist() == [300, 150, 300, 300]


async def test_no_rows_asked_for_are_no_rows(store: Store) -> None:
    found = await store.read(user=[], item=[])
    assert (found.values.shape, found.status.shape) == ((0, 6), (0, 4))


async def test_keys_that_do_not_fit_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="every item must be of type int"):
        await store.read(user=["u"], item=["1"])


@pytest.mark.engine
async def test_a_key_that_holds_no_hash_is_refused(redis_server: str) -> None:
    plan = StoredPlan([MOOD])
    good, bad = EntityKeys(PROJECT, MOOD.join_keys).encode([["good", "bad"]])
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
        client.set(bad, "no hash")
        RedisWriter(client).write(MOOD, {"user": "good"}, {"mood": 1}, NOW_US)
        assert client.exists(good)
    reader = RedisStoredReader(RedisConnection(redis_server), PROJECT, plan)
    found = await reader.read(StoredRequest({"user": ["bad", "good"]}, NOW_US), TIMEOUT_S)
    assert found.status.tolist() == [[REFUSED], [FRESH]]
    np.testing.assert_array_equal(found.values, [[NAN], [1]])
    await reader.close()


async def test_a_store_that_refuses_to_read_is_unavailable() -> None:
    class Loading(RedisConnection):
        async def execute(self, commands: Commands, timeout_s: float) -> list[object]:  # noqa: ARG002  as the original
            return [RefusedCommand("LOADING Redis is loading the dataset in memory")] * commands.replies

    reader = RedisStoredReader(Loading("redis://127.0.0.1"), PROJECT, PLAN)
    with pytest.raises(Unavailable, match="LOADING"):
        await reader.read(StoredRequest({"user": ["u"], "item": [1]}, NOW_US), TIMEOUT_S)


async def test_a_number_beyond_its_key_type_is_refused() -> None:
    with pytest.raises(ValueError, match="item is no int32: 2147483648"):
        EntityKeys(PROJECT, [JoinKey("item", KeyType.INT32)]).encode([[2**31]])


async def test_a_store_that_is_away_is_unavailable(unused_tcp_port: int) -> None:
    reader = RedisStoredReader(RedisConnection(f"redis://127.0.0.1:{unused_tcp_port}/0"), PROJECT, PLAN)
    with pytest.raises(Unavailable):
        await reader.read(StoredRequest({"user": ["u"], "item": [1]}, NOW_US), 0.2)
    await reader.close()
