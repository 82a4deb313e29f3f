"""Feast's SDK and the fast reader see one store alike; the reader survives what really happens to Redis."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import redis
import uvloop
from numpy.typing import NDArray

from flywheel.adapters import feast_repo, feast_stored
from flywheel.adapters.redis_cluster_client import open_client
from flywheel.adapters.redis_cluster_connection import open_connection
from flywheel.adapters.redis_connection import RedisConnection, pack
from flywheel.adapters.redis_stored import RedisStoredReader
from flywheel.kernel.ports import Unavailable
from flywheel.kernel.stored import JoinKey, KeyType, StoredFeature, StoredRequest, StoredStatus, StoredView
from flywheel.kernel.stored_plan import StoredPlan
from flywheel.kernel.stored_values import ScalarType
from infra.local import online_store
from infra.local.readiness import RedisAnswers
from tests.engines import free_port, running

if TYPE_CHECKING:
    from feast import FeatureStore

Floats = NDArray[np.float64]

pytestmark = pytest.mark.engine

PROJECT = "stored"
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000
TIMEOUT_S = 5.0

USERS = StoredView(
    "users",
    (JoinKey("user"),),
    (
        StoredFeature("spent"),
        StoredFeature("mood", ScalarType.FLOAT),
        StoredFeature("orders", ScalarType.INT64),
        StoredFeature("rank", ScalarType.INT32),
        StoredFeature("staff", ScalarType.BOOL),
    ),
)
ITEMS = StoredView("items", (JoinKey("item", KeyType.INT64),), (StoredFeature("price"), StoredFeature("weight")))
TASTES = StoredView("tastes", (JoinKey("user"), JoinKey("item", KeyType.INT64)), (StoredFeature("taste"),))
PLAN = StoredPlan([USERS, ITEMS, TASTES])
ITEM_COUNT = 40


@pytest.fixture(scope="module", params=["redis_server", "redis_cluster_url"])
def store_url(request: pytest.FixtureRequest) -> str:
    """An empty store: one Redis, or a cluster."""
    url: str = request.getfixturevalue(request.param)
    with closing(open_client(url)) as client:
        for node in client.nodes():
            node.flushdb()
    return url


@pytest.fixture(scope="module")
def feast(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Feast on the real Redis, filled by its own SDK."""
    from feast import FeatureStore, RepoConfig

    directory = tmp_path_factory.mktemp("feast")
    store = FeatureStore(
        config=RepoConfig(
            project=PROJECT,
            provider="local",
            registry=str(directory / "registry.db"),
            repo_path=directory,
            online_store=feast_repo._online_store(store_url),
            offline_store={"type": "duckdb"},
            entity_key_serialization_version=3,
        )
    )
    store.apply(feast_stored.feast_objects(PLAN.views, directory))
    rng = np.random.default_rng(7)
    items = list(range(-1, ITEM_COUNT - 1))
    frames = {
        "users": pd.DataFrame(
            {
                "user": ["ann", "böb"],
                "spent": [0.0, None],
                "mood": np.array([-1.5, 0.1], np.float32),
                "orders": [2**52, -7],
                "rank": np.array([-(2**31), 2**31 - 1], np.int32),
                "staff": [True, False],
            }
        ),
        "items": pd.DataFrame(
            {"item": items, "price": rng.lognormal(size=ITEM_COUNT), "weight": rng.normal(size=ITEM_COUNT)}
        ),
        "tastes": pd.DataFrame({"user": ["ann"] * ITEM_COUNT, "item": items, "taste": rng.random(ITEM_COUNT)}),
    }
    for name, frame in frames.items():
        ages_s = rng.integers(0, 3600, len(frame)) + rng.random(len(frame)).round(6)
        frame["event_timestamp"] = [NOW - timedelta(seconds=age_s) for age_s in ages_s]
        store.write_to_online_store(name, frame)
    return store


async def read(url: str, plan: StoredPlan, keys: dict[str, list[str] | list[int]]) -> Floats:
    reader = RedisStoredReader(open_connection(url), PROJECT, plan)
    try:
        return (await reader.read(StoredRequest(keys, NOW_US), TIMEOUT_S)).values
    finally:
        await reader.close()


@pytest.mark.parametrize("user", ["ann", "böb", "nobody"])
def test_feasts_sdk_and_the_fast_reader_return_the_same_values(feast: FeatureStore, store_url: str, user: str) -> None:
    items = [5, 3, -1, 3, 999, 38, 0, 17]
    answer = feast.get_online_features(
        features=list(PLAN.features),
        entity_rows=[{"user": user, "item": item} for item in items],
        full_feature_names=True,
    ).to_dict()
    by_feast = np.array([answer[name.replace(":", "__")] for name in PLAN.features], np.float64).T
    ours = uvloop.run(read(store_url, PLAN, {"user": [user], "item": list(items)}))
    np.testing.assert_array_equal(ours, by_feast)
    assert np.isfinite(ours).any()


def test_ages_and_statuses_are_told_of_what_feast_wrote(feast: FeatureStore, store_url: str) -> None:
    del feast
    expiring = StoredView(ITEMS.name, ITEMS.join_keys, ITEMS.features, ttl_us=1_800_000_000)
    plan = StoredPlan([expiring])

    async def ask() -> tuple[Floats, list[int], list[bool]]:
        reader = RedisStoredReader(open_connection(store_url), PROJECT, plan)
        keys = {"item": list(range(-1, ITEM_COUNT))}
        found = await reader.read(StoredRequest(keys, NOW_US), TIMEOUT_S)
        await reader.close()
        return found.age_ms[:, 0], found.status[:, 0].tolist(), np.isnan(found.values[:, 0]).tolist()

    ages_ms, statuses, without = uvloop.run(ask())
    assert statuses[-1] == StoredStatus.MISSING
    assert np.isnan(ages_ms[-1])
    assert statuses[:-1] == [StoredStatus.STALE if age > 1_800_000 else StoredStatus.FRESH for age in ages_ms[:-1]]
    assert set(statuses) == {StoredStatus.FRESH, StoredStatus.STALE, StoredStatus.MISSING}
    assert without == [status != StoredStatus.FRESH for status in statuses]


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Address and process of a Redis with a password, for one test to maltreat."""
    port = free_port()
    command = online_store.command(tmp_path, port)
    with running(command, RedisAnswers(port), tmp_path / "redis.log") as process:
        with redis.Redis(port=port) as client:
            client.config_set("requirepass", "s3:cret")
        yield f"redis://:s3%3Acret@127.0.0.1:{port}/2", process.pid


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_many_calls_at_once_and_given_up_ones_never_mix(own_redis: tuple[str, int], run: Callable[..., None]) -> None:
    async def ask() -> None:
        connection = RedisConnection(own_redis[0])
        await connection.execute(pack(*(("SET", f"k{n}", f"v{n}") for n in range(500))), TIMEOUT_S)

        async def one(n: int) -> bool:
            patient = n % 5 == 0
            try:
                timeout_s = TIMEOUT_S if patient else 0.0005 * (n % 40)
                replies = await connection.execute(pack(("GET", f"k{n}"), ("ECHO", n)), timeout_s)
            except Unavailable:
                return not patient
            assert replies == [b"v%d" % n, b"%d" % n]
            return True

        for _ in range(4):
            assert all(await asyncio.gather(*(one(n) for n in range(500))))
        assert await connection.execute(pack(("GET", "k7"), ("CLIENT", "LIST")), TIMEOUT_S)
        clients = (await connection.execute(pack(("CLIENT", "LIST")), TIMEOUT_S))[0].decode()
        assert clients.count("db=2") == 1
        await connection.close()

    run(ask())


def test_a_redis_that_hangs_is_late_and_then_answers_again(own_redis: tuple[str, int]) -> None:
    async def ask() -> None:
        connection = RedisConnection(own_redis[0], silent_s=0.2)
        loop = asyncio.get_running_loop()
        assert await connection.execute(pack(("ECHO", "before")), TIMEOUT_S) == [b"before"]
        os.kill(own_redis[1], signal.SIGSTOP)
        try:
            for _ in range(8):
                began_s = loop.time()
                with pytest.raises(Unavailable):
                    await connection.execute(pack(("ECHO", "hanging")), 0.05)
                assert loop.time() - began_s < 1.0
        finally:
            os.kill(own_redis[1], signal.SIGCONT)
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                try:
                    replies = await connection.execute(pack(("ECHO", "after")), 0.5)
                    break
                except Unavailable:
                    await asyncio.sleep(0.005)
        assert replies == [b"after"]
        await connection.close()

    uvloop.run(ask())
