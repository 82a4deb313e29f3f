"""The edge lane as a process beside Spark: decisions see every acknowledged event, whether or not Spark lives."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.kernel.durations import DAY_US
from tests.features_stack import (
    PLAN,
    Stack,
    await_counts,
    counted,
    engines,
    entities,
    expected_counts,
    happened,
    lot,
    oracle,
    read,
    until,
)

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with engines(tmp_path_factory.mktemp("edge")) as made:
        yield made


def mismatches(stack: Stack) -> list[str]:
    """Features that decisions would read wrong, at the newest event of each entity."""
    writer = RedisFeatureWriter(stack.redis_url, PLAN)
    sent = stack.distinct()
    events = [happened(event) for event in sent]
    found = []
    for view in PLAN.views:
        (key,) = view.entity.keys
        for entity_id in entities(view, sent):
            at_us = max(event.event_time_us for event in sent if getattr(event, key) == entity_id)
            for feature, got, wanted in zip(
                view.features,
                read(writer, view, entity_id, at_us),
                oracle(view, events, entity_id, at_us),
                strict=True,
            ):
                if got != wanted:
                    found.append(f"{entity_id} {feature.name}: {got}, should be {wanted}")
    writer.close()
    return found


def test_features_stay_exact_while_spark_is_stopped_killed_and_back(stack: Stack) -> None:
    rng = random.Random(11)
    stack.send(lot(rng, "a", 0, 600))
    spark, edge = stack.start(), stack.start("services.features.edge")
    try:
        until(stack.is_ready, "ready", stack)
        until(lambda: stack.is_ready(stack.edge_port), "edge ready", stack)
        await_counts(stack)
        spark.kill()
        spark.wait()
        before = counted(stack)
        for number in range(4):
            stack.send(lot(rng, f"b{number}", 11 * DAY_US, 250))
            until(lambda: not mismatches(stack), "events on the edge", stack, 20)
        assert counted(stack) == before, "the tiles have not moved"
        edge.kill()
        edge.wait()
        stack.send(lot(rng, "c", 13 * DAY_US, 100))
        edge = stack.start("services.features.edge")
        until(lambda: not mismatches(stack), "events on the edge again", stack, 40)
        spark = stack.start()
        deadline_s = time.monotonic() + 150
        while counted(stack) != expected_counts(stack):
            assert not mismatches(stack), "while the tiles take over"
            assert time.monotonic() < deadline_s, stack.log()
        assert not mismatches(stack)
    finally:
        for process in (spark, edge):
            process.kill()
            process.wait()
