"""What every feature store says of how far it is, and whose it is."""

from __future__ import annotations

import pytest
import redis

from flywheel.adapters.redis_store import RedisFeatureReader, RedisFeatureWriter
from flywheel.kernel.ports import (
    Answer,
    Lane,
    Question,
    StoreProgress,
)
from flywheel.kernel.state import mark_of
from tests.feature_stores import CARD, NOTHING, PLAN, Store, read
from usecases.fraud import usecase


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
    store.writer.report(Lane.EDGE, StoreProgress(9, 9, 2**51))
    assert read(store, CARD) == ([NOTHING], StoreProgress(9, 9, 2**51))


def test_the_present_is_the_newest_event_of_any_lane_and_never_an_older_one_again(store: Store) -> None:
    store.writer.absorb({0: 1}, None)
    store.writer.report(Lane.EDGE, StoreProgress(5, 5, 2**51))
    store.writer.report(Lane.TILES, StoreProgress(9, 9))
    assert read(store, CARD)[1] == StoreProgress(9, 9, 2**51)
    for newest_us in (None, 7, 2**51 + 1):
        store.writer.report(Lane.EDGE, StoreProgress(10, 10, newest_us))
        assert read(store, CARD)[1] == StoreProgress(10, 10, max(newest_us or 0, 2**51))
    store.writer.report(Lane.TILES, StoreProgress(11, 11, 2**51))
    assert read(store, CARD)[1] == StoreProgress(11, 11, 2**51 + 1)
    store.writer.hand_over(None)
    store.writer.absorb({0: 1}, None)
    store.writer.report(Lane.EDGE, StoreProgress(12, 12, 7))
    assert read(store, CARD)[1] == StoreProgress(12, 12, 7)


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
