"""The edge lane as a process beside Spark: decisions see every acknowledged event, whether or not Spark lives."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest
import redis
from confluent_kafka.admin import AdminClient, NewPartitions

from flywheel.adapters.kafka_topics import publish
from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.contracts.erasure import Erased
from flywheel.contracts.topics import erasures_topic, event_topic
from flywheel.kernel.durations import DAY_US
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.ports import ViewKey
from flywheel.kernel.state import EntityState
from tests.features_stack import (
    PLAN,
    Stack,
    archived,
    await_counts,
    counted,
    engines,
    entities,
    expected_counts,
    lot,
    until,
    wrong_features,
)

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with engines(tmp_path_factory.mktemp("edge")) as made:
        yield made


def test_features_stay_exact_while_spark_is_stopped_killed_and_back(stack: Stack) -> None:
    rng = random.Random(11)
    stack.send(lot(rng, "a", 0, 300))
    spark, edge = stack.start(), stack.start("services.features.edge")
    try:
        until(stack.is_ready, "ready", stack)
        until(lambda: stack.is_ready(stack.edge_port), "edge ready", stack)
        await_counts(stack)
        spark.kill()
        spark.wait()
        before = counted(stack)
        for number in range(2):
            stack.send(lot(rng, f"b{number}", (1 + number) * 11 * DAY_US, 100))
            until(lambda: not wrong_features(stack), "events on the edge", stack, 60)
        assert counted(stack) == before, "the tiles have not moved"
        edge.kill()
        edge.wait()
        stack.send(lot(rng, "c", 33 * DAY_US, 100))
        edge = stack.start("services.features.edge")
        until(lambda: not wrong_features(stack), "events on the edge again", stack, 60)
        spark = stack.start()
        deadline_s = time.monotonic() + 150
        while counted(stack) != expected_counts(stack):
            assert not wrong_features(stack), "while the tiles take over"
            assert time.monotonic() < deadline_s, stack.log()
        assert not wrong_features(stack)
    finally:
        for process in (spark, edge):
            process.kill()
            process.wait()


def states(stack: Stack) -> dict[ViewKey, EntityState]:
    """The state of every entity."""
    writer = RedisFeatureWriter(stack.redis_url, PLAN)
    keys = [
        (view, ViewKey(view.name, entity_id)) for view in PLAN.views for entity_id in entities(view, stack.distinct())
    ]
    packed = [stored.state or b"" for stored in writer.read([key for _, key in keys])]
    writer.close()
    return {key: EntityState.unpack(view, state) for (view, key), state in zip(keys, packed, strict=True)}


def assert_same_state(one: EntityState, other: EntityState) -> None:
    """Row by row; only the memory of the last arrivals may differ, which depends on their order."""
    assert one.newest_us == other.newest_us
    np.testing.assert_array_equal(one.raw, other.raw)
    for mine, theirs in zip(one.lanes, other.lanes, strict=True):
        np.testing.assert_array_equal(mine.cells, theirs.cells)
        assert [list(map(bytes, column)) for column in mine.sketches] == [
            list(map(bytes, column)) for column in theirs.sketches
        ]


def test_a_lost_store_is_rebuilt_row_by_row_while_traffic_goes_on(stack: Stack) -> None:
    spark, edge = stack.start(), stack.start("services.features.edge")
    try:
        until(stack.is_ready, "ready", stack)
        await_counts(stack)
        until(lambda: archived(stack) == stack.records, "all archived", stack)
        before = states(stack)
        with redis.Redis.from_url(stack.redis_url) as client:
            client.flushall()
        until(lambda: spark.poll() is not None or not stack.is_ready(stack.edge_port), "the loss is noticed", stack)
        spark.kill()
        spark.wait()
        refused = stack.start()
        assert refused.wait(90) == 1
        assert "make rebuild" in stack.log()

        filled = stack.start("services.features", "rebuild")
        stack.send(lot(random.Random(5), "d", 44 * DAY_US, 50))
        assert filled.wait(120) == 0, stack.log()
        after = states(stack)
        for key, state in before.items():
            assert_same_state(after[key], state)
        spark = stack.start()
        until(lambda: not wrong_features(stack), "old and new events are visible", stack)
        await_counts(stack)
        assert not wrong_features(stack)
    finally:
        for process in (spark, edge):
            process.kill()
            process.wait()


def test_a_partition_that_is_added_while_both_lanes_run_is_counted_by_both(stack: Stack) -> None:
    topic = event_topic("fraud", "transaction")
    spark, edge = stack.start(), stack.start("services.features.edge")
    try:
        until(stack.is_ready, "ready", stack)
        until(lambda: stack.is_ready(stack.edge_port), "edge ready", stack)
        admin = AdminClient({"bootstrap.servers": stack.bootstrap})
        added = admin.create_partitions([NewPartitions(topic.name, topic.partitions + 1)])
        added[topic.name].result(20)
        until(
            lambda: len(admin.list_topics(topic.name, timeout=5).topics[topic.name].partitions) > topic.partitions,
            "added",
            stack,
        )
        stack.send(lot(random.Random(7), "e", 55 * DAY_US, 100))
        until(lambda: not wrong_features(stack), "events of all partitions on the edge", stack, 60)
        await_counts(stack)
        assert not wrong_features(stack)
        assert "kafka_partitions_added" in (stack.data / "features.log").read_text()
    finally:
        for process in (spark, edge):
            process.kill()
            process.wait()


def test_under_another_erasure_key_it_ends_in_one_sentence(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    key = EraseKey(stack.settings().erasure_key.encode(), "fraud")
    erased = Erased(
        usecase="fraud",
        entity="card",
        pseudonym=key.pseudonym("card", "nobody"),
        key_check=key.check,
        erased_at=datetime.now(UTC),
        erased_by="somebody",
    )
    publish(stack.bootstrap, erasures_topic("fraud").name, erased.key, erased.to_bytes())
    before = (stack.data / "features.log").stat().st_size if (stack.data / "features.log").exists() else 0
    monkeypatch.setenv("FLYWHEEL_ERASURE_KEY", "another key")
    assert stack.start("services.features.edge").wait(30) == 1
    said = (stack.data / "features.log").read_text()[before:]
    assert "Traceback" not in said
    last = json.loads(said.splitlines()[-1])
    assert last["event"] == "edge_cannot_run"
    assert "FLYWHEEL_ERASURE_KEY" in last["reason"]
