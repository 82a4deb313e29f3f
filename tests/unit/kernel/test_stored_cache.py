"""The cache of stored rows: what comes out is what reading would have given, for as long as declared and no longer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flywheel.adapters.memory_stored import MemoryStoredFeatures
from flywheel.kernel.stored import JoinKey, KeyType, StoredColumns, StoredFeature, StoredRequest, StoredView
from flywheel.kernel.stored_cache import StoredCache
from flywheel.kernel.stored_plan import StoredPlan
from flywheel.kernel.stored_values import ScalarType

AT_US = 1_700_000_000_000_000
ITEM = (JoinKey("item"),)
PRICES = StoredView("prices", ITEM, (StoredFeature("price", default=-1.0), StoredFeature("stock")), 60_000_000)
TASTES = StoredView("tastes", ITEM, (StoredFeature("taste", ScalarType.FLOAT, default=-2.0),))
PLAN = StoredPlan([PRICES, TASTES])
ITEMS = ("a", "b", "c", "d", "corrupt", "nobody")


def _filled() -> MemoryStoredFeatures:
    store = MemoryStoredFeatures(PLAN)
    for number, item in enumerate(ITEMS[:4]):
        keys = {"item": item}
        store.write(PRICES, keys, {"price": float(number), "stock": None}, AT_US - number * 20_000_000)
        if number % 2:
            store.write(TASTES, keys, {"taste": number / 2}, AT_US)
    store.put("prices", "price", {"item": "corrupt"}, b"?")
    return store


class _Cached:
    def __init__(self, cache: StoredCache, store: MemoryStoredFeatures) -> None:
        self.cache, self.store = cache, store
        self.asked: list[Sequence[str | int]] = []

    async def read(self, items: Sequence[str], now_s: float, at_us: int | list[int] = AT_US) -> StoredColumns:
        request = StoredRequest({"item": items}, np.array(at_us) if isinstance(at_us, list) else at_us)
        lookup = self.cache.look(request, now_s)
        self.asked.append(lookup.missing.keys["item"])
        answer = await _read(self.store, lookup.missing)
        assert lookup.hits == len(items) - len(answer.values)
        return self.cache.join(lookup, answer, now_s)


async def _read(store: MemoryStoredFeatures, request: StoredRequest) -> StoredColumns:
    """Row by row where each has a time of its own."""
    rows = len(request.keys["item"])
    times: list[int] = np.broadcast_to(request.now_us, rows).tolist()
    parts = [
        await store.read(StoredRequest({"item": [str(item)]}, at_us), 1)
        for item, at_us in zip(request.keys["item"], times, strict=True)
    ]
    if not parts:
        return await store.read(StoredRequest({"item": []}, 0), 1)
    values, status, age_ms = (np.concatenate(columns) for columns in zip(*(part[:3] for part in parts), strict=True))
    return StoredColumns(values, status, age_ms)


def _assert_equal(found: StoredColumns, wanted: StoredColumns) -> None:
    for one, other in zip(found[:3], wanted[:3], strict=True):
        np.testing.assert_array_equal(one, other)


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(ITEMS), st.integers(-90_000_000, 90_000_000)), min_size=1, max_size=8),
        max_size=8,
    ),
    st.integers(1, 8),
)
async def test_cached_rows_are_what_the_store_would_have_answered(
    requests: list[list[tuple[str, int]]], capacity: int
) -> None:
    store = _filled()
    cached = _Cached(StoredCache(PLAN, keep_s=5, capacity=capacity), store)
    for number, rows in enumerate(requests):
        items, times = [item for item, _ in rows], [AT_US + late_us for _, late_us in rows]
        found = await cached.read(items, number * 0.01, times)
        _assert_equal(found, await _read(store, StoredRequest({"item": items}, np.array(times))))
        assert len(cached.cache) <= capacity


async def test_a_row_is_read_once_until_its_time_is_over_and_then_again() -> None:
    store = _filled()
    cached = _Cached(StoredCache(PLAN, keep_s=5, capacity=10), store)
    await cached.read(["a", "b"], 0)
    store.write(PRICES, {"item": "a"}, {"price": 9.0}, AT_US)
    assert (await cached.read(["b", "a"], 4.9)).values[:, 0].tolist() == [1, 0]
    assert (await cached.read(["a"], 5.0)).values[:, 0].tolist() == [9]
    assert cached.asked == [["a", "b"], [], ["a"]]


async def test_that_nothing_is_stored_is_remembered_and_a_stale_row_is_not() -> None:
    cached = _Cached(StoredCache(PLAN, keep_s=5, capacity=10), _filled())
    for now_s in (0, 1):
        await cached.read(["nobody", "a"], now_s, AT_US + 61_000_000)
    assert cached.asked == [["nobody", "a"], ["a"]]


async def test_beyond_its_capacity_what_was_used_least_recently_goes() -> None:
    cached = _Cached(StoredCache(PLAN, keep_s=5, capacity=2), _filled())
    for items in (["a"], ["b"], ["a"], ["c"], ["a"], ["b"]):
        await cached.read(items, 0)
    assert cached.asked == [["a"], ["b"], [], ["c"], [], ["b"]]


async def test_the_age_of_the_oldest_row_is_told() -> None:
    cached = _Cached(StoredCache(PLAN, keep_s=5, capacity=9), _filled())
    await cached.read(["a"], 1)
    await cached.read(["b"], 2)
    assert cached.cache.look(StoredRequest({"item": ["a", "b"]}, AT_US), 4).oldest_s == 3
    assert cached.cache.look(StoredRequest({"item": ["c"]}, AT_US), 4).oldest_s == 0


async def test_rows_of_several_keys_are_told_apart_and_shared_keys_stay_shared() -> None:
    pair = StoredView("pairs", (JoinKey("user"), JoinKey("item", KeyType.INT64)), (StoredFeature("taste"),))
    plan = StoredPlan([pair])
    store = MemoryStoredFeatures(plan)
    for user, item in (("u", 1), ("u", 2), ("v", 1)):
        store.write(pair, {"user": user, "item": item}, {"taste": item + 10.0 * (user == "v")}, AT_US)
    cache = StoredCache(plan, keep_s=5, capacity=9)
    for user, items, missing in (("u", [1, 2], [1, 2]), ("v", [1], [1]), ("u", [2, 3, 1], [3]), ("v", [1], [])):
        request = StoredRequest({"user": [user], "item": items}, AT_US)
        lookup = cache.look(request, 0)
        assert lookup.missing.keys["item"] == missing
        found = cache.join(lookup, await store.read(lookup.missing, 1), 0)
        _assert_equal(found, await store.read(request, 1))


async def test_what_is_corrupt_is_read_again_for_it_may_be_mended() -> None:
    store = _filled()
    cached = _Cached(StoredCache(PLAN, keep_s=60.0, capacity=8), store)
    first = await cached.read(["corrupt", "a"], 0.0)
    store.write(PRICES, {"item": "corrupt"}, {"price": 7.0, "stock": None}, AT_US)
    mended = await cached.read(["corrupt", "a"], 1.0)
    assert cached.asked == [["corrupt", "a"], ["corrupt"]]
    assert first.values[0, 0] != 7.0
    assert mended.values[0, 0] == 7.0
