"""The features service as a process, on a real broker and a real store: what it keeps equals a brute-force oracle."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest
import redis

from flywheel.adapters.feast_repo import apply_declaration, online_service, open_store, training_frame
from flywheel.adapters.kafka_reader import KafkaReader
from flywheel.adapters.kafka_topics import publish
from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.contracts.events import to_us
from flywheel.contracts.topics import decisions_topic, history_topic, training_requests_topic
from flywheel.contracts.training import HistoryBuilt, TrainingRequested
from flywheel.kernel.durations import DAY_US, HOUR_US
from flywheel.kernel.ports import ViewKey
from flywheel.kernel.state import EntityState
from flywheel.kernel.vector import assemble, request_columns
from tests.decision_rows import decided
from tests.engines import free_port
from tests.feast_warnings import FEAST_WARNS
from tests.features_stack import (
    NAMES,
    PLAN,
    Stack,
    archived,
    await_counts,
    counted,
    engines,
    entities,
    happened,
    ids,
    lot,
    oracle,
    read,
    until,
)
from usecases.fraud import usecase
from usecases.fraud.events import Transaction

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with engines(tmp_path_factory.mktemp("features")) as made:
        yield made


@pytest.fixture(scope="module")
def lived(stack: Stack) -> Iterator[Stack]:
    """A service that counted three lots of events and was killed in the middle of the second."""
    rng = random.Random(7)
    stack.send(lot(rng, "a", 0, 1500))
    process = stack.start()
    try:
        until(stack.is_ready, "ready", stack)
        await_counts(stack)
        before = counted(stack)
        second = lot(rng, "b", 11 * DAY_US, 1500)
        stack.send(second[:500])
        until(lambda: counted(stack) != before, "second lot begun", stack)
        stack.send(second[500:])
        process.kill()
        process.wait()
        stack.send(lot(rng, "c", 22 * DAY_US, 300))
        process = stack.start()
        until(stack.is_ready, "ready again", stack)
        await_counts(stack)
        yield stack
        process.terminate()
        assert process.wait(30) == 0, (stack.data / "features.log").read_text()[-3000:]
    finally:
        process.kill()
        process.wait()


def test_states_equal_the_oracle_after_a_kill(lived: Stack) -> None:
    writer = RedisFeatureWriter(lived.redis_url, PLAN)
    events = [happened(event) for event in lived.distinct()]
    checked = 0
    for view in PLAN.views:
        for entity_id in entities(view, lived.distinct()):
            (stored,) = writer.read([ViewKey(view.name, entity_id)])
            newest_us = EntityState.unpack(view, stored.state or b"").newest_us
            for at_us in (newest_us - 7, newest_us, newest_us + 7, newest_us + HOUR_US, newest_us + 3 * DAY_US):
                assert read(writer, view, entity_id, at_us) == oracle(view, events, entity_id, at_us), (
                    entity_id,
                    at_us,
                )
                checked += 1
    writer.close()
    assert checked == 5 * 18


def test_every_record_is_archived_once(lived: Stack) -> None:
    until(lambda: archived(lived) == lived.records, "all archived", lived)
    assert (
        sum(lived.metric("flywheel_features_archived_events", usecase="fraud", event=n) for n in NAMES) == lived.records
    )
    assert sorted(ids(lived)) == sorted(event.event_id for event in lived.sent)


def test_decisions_are_archived_with_their_features(lived: Stack) -> None:
    decision = decided("x-1", datetime.now(UTC), [float(number) for number in range(len(usecase.feature_names))])
    publish(lived.bootstrap, decisions_topic("fraud").name, b"card-1", decision.to_bytes())
    path = lived.data / "lake" / "fraud" / "decisions"
    until(lambda: any(path.glob("*/*/*.parquet")), "decisions archived", lived)
    (row,) = ds.dataset(path, partitioning="hive").to_table(["decision_id", "features"]).to_pylist()
    assert (row["decision_id"], tuple(row["features"])) == (decision.decision_id, decision.features)
    wanted = {"usecase": "fraud", "event": "decisions"}
    until(lambda: lived.metric("flywheel_features_archived_events", **wanted) == 1, "counted as archived", lived)


def test_idle_time_keeps_the_store_visible(lived: Stack) -> None:
    client: Any = redis.Redis.from_url(lived.redis_url)
    asked_us = time.time_ns() // 1000

    def visible_us() -> int:
        return int(client.hget("fraud:progress", "tiles_visible_until_us") or 0)

    until(lambda: visible_us() > asked_us, "progress without events", lived, 10)
    client.close()


@pytest.fixture(scope="module")
def built(lived: Stack) -> HistoryBuilt:
    request = TrainingRequested(request_id="r1", requested_at=datetime.now(UTC), reason="test")
    publish(lived.bootstrap, training_requests_topic("fraud").name, b"r1", request.to_bytes())
    return await_history(lived)


def test_history_equals_the_oracle(lived: Stack, built: HistoryBuilt) -> None:
    requests = {event.event_id: event for event in lived.distinct() if isinstance(event, Transaction)}
    order = lived.arrivals
    assert built.request_id == "r1"
    assert built.rows == len(requests)
    assert to_us(built.event_time_until) == max(event.event_time_us for event in requests.values())
    for view in PLAN.views:
        rows = ds.dataset(Path(built.path) / view.history_name / f"snapshot={built.snapshot_id}").to_table().to_pylist()
        assert {row["event_id"] for row in rows} == set(requests)
        assert len(rows) == len(requests)
        for row in random.Random(1).sample(rows, 300):
            event, entity_id = requests[row["event_id"]], row[view.entity.keys[0]]
            assert to_us(row["event_timestamp"]) == event.event_time_us
            known = [happened(other) for other in order if order[other] <= order[event]]
            wanted = oracle(view, known, entity_id, event.event_time_us, event)
            assert [row[f.name] for f in view.features] == wanted, (event, row)


@pytest.mark.usefixtures("feast_environment")
@FEAST_WARNS
def test_feast_returns_what_the_fold_returns(lived: Stack) -> None:
    settings = lived.settings()
    apply_declaration(settings, PLAN)
    store = open_store(settings, PLAN)
    requests = [event for event in lived.distinct() if isinstance(event, Transaction)][-40:]
    unseen = requests[0].model_copy(update={"card_id": "never", "terminal_id": "seen", "event_id": "new"})
    requests.append(unseen)
    rows = [
        {
            "card_id": request.card_id,
            "terminal_id": request.terminal_id,
            "request_event_id": request.event_id,
            "request_event_time_us": request.event_time_us,
            "request_amount_cents": request.amount_cents,
            "request_card_id": request.card_id,
            "request_terminal_id": request.terminal_id,
        }
        for request in requests
    ]
    service = store.get_feature_service(online_service("fraud"))
    answer = store.get_online_features(features=service, entity_rows=rows).to_dict()
    found = np.column_stack([answer[name] for name in usecase.feature_names])
    expected = np.vstack([vector(lived, request) for request in requests])
    assert np.array_equal(found.astype(np.float32), expected)
    assert answer["card_transaction_count_30d"][-1] == 1.0


def vector(stack: Stack, request: Transaction) -> np.ndarray:
    """The model's row as serving makes it."""
    writer = RedisFeatureWriter(stack.redis_url, PLAN)
    columns = {name: np.array([value]) for name, value in request_columns(request).items()}
    for view in PLAN.views:
        values = read(writer, view, view.entity.id_in(request), request.event_time_us, request)
        columns |= {f.name: np.array([value]) for f, value in zip(view.features, values, strict=True)}
    writer.close()
    return assemble(usecase, columns)


@pytest.mark.usefixtures("feast_environment")
@FEAST_WARNS
def test_feast_joins_history_without_losing_a_row(lived: Stack, built: HistoryBuilt) -> None:
    requests = [event for event in lived.distinct() if isinstance(event, Transaction)]
    entities = pd.DataFrame(
        {
            "event_id": [request.event_id for request in requests],
            "card_id": [request.card_id for request in requests],
            "terminal_id": [request.terminal_id for request in requests],
            "event_timestamp": pd.to_datetime([request.event_time for request in requests], utc=True),
        }
    )
    settings = lived.settings()
    frame = training_frame(settings, PLAN, entities, built.snapshot_id).set_index("event_id")
    assert len(frame) == len(requests)
    for view in PLAN.views:
        rows = ds.dataset(Path(built.path) / view.history_name / f"snapshot={built.snapshot_id}").to_table().to_pandas()
        names, (key,) = [feature.name for feature in view.features], view.entity.keys
        # Of events of one entity at one moment each knew what had arrived by its own arrival; Feast gives any of these.
        at_once = {moment: part[names].to_numpy() for moment, part in rows.groupby([key, "event_timestamp"])}
        for row in frame[[key, "event_timestamp", *names]].itertuples(index=False):
            candidates = at_once[row[0], row[1]]
            assert (candidates == np.array(row[2:])).all(axis=1).any(), row
        assert sum(len(candidates) == 1 for candidates in at_once.values()) > len(rows) / 2


def await_history(stack: Stack) -> HistoryBuilt:
    reader = KafkaReader(stack.bootstrap, [history_topic("fraud").name], "test")
    found: list[HistoryBuilt] = []

    def arrived() -> bool:
        found.extend(HistoryBuilt.model_validate_json(record.value) for record in reader.poll(1.0, 1))
        return bool(found)

    until(arrived, "history built", stack)
    reader.close()
    return found[0]


def test_refuses_to_count_on_top_of_a_lost_checkpoint(lived: Stack) -> None:
    elsewhere = Stack(lived.bootstrap, lived.redis_url, lived.data / "elsewhere", free_port(), free_port())
    elsewhere.data.mkdir()
    process = elsewhere.start()
    assert process.wait(60) == 1
    last = json.loads((elsewhere.data / "features.log").read_text().splitlines()[-1])
    assert last["event"] == "features_cannot_start"
    assert "is gone" in last["reason"]
    assert "make clean" in last["reason"]
