"""The features service as a process, on a real broker and a real store: what it keeps equals a brute-force oracle."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest
import redis
from confluent_kafka import Producer

from flywheel.adapters.feast_repo import apply_declaration, online_service, open_store, training_frame
from flywheel.adapters.kafka_reader import KafkaReader
from flywheel.adapters.kafka_topics import create_topics, publish
from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.contracts.events import Envelope, Event, from_us, to_us
from flywheel.contracts.settings import PlatformSettings
from flywheel.contracts.topics import decisions_topic, event_topic, history_topic, topics_of, training_requests_topic
from flywheel.contracts.training import HistoryBuilt, TrainingRequested
from flywheel.kernel.durations import DAY_US, HOUR_US
from flywheel.kernel.features import Statistic, WindowedFeature
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ports import ViewKey
from flywheel.kernel.tiles import EntityState, OwnEvent, fold, id_hash
from flywheel.kernel.vector import assemble, request_columns
from infra.local import broker, online_store
from infra.local.readiness import BrokerAnswers, RedisAnswers
from tests.decision_rows import decided
from tests.engines import free_port, running
from usecases.fraud import usecase
from usecases.fraud.events import Chargeback, Transaction

pytestmark = pytest.mark.engine

FEAST_WARNS = pytest.mark.filterwarnings(
    "ignore:On demand feature view is an experimental feature:RuntimeWarning",
    "ignore::DeprecationWarning:feast.*",
    "ignore::DeprecationWarning:ibis.*",
    "ignore::FutureWarning:ibis.*",
)
PLAN = compile_plan(usecase)
START_US = to_us(datetime(2018, 4, 1, tzinfo=UTC))
NAMES = tuple(event.event_name for event in usecase.events)


@dataclass
class Stack:
    """A broker, a store, and the service over them."""

    bootstrap: str
    redis_url: str
    data: Path
    metrics_port: int
    sent: list[Event] = field(default_factory=list)
    records: int = 0

    def settings(self) -> PlatformSettings:
        return PlatformSettings(data_dir=self.data, redis_url=self.redis_url, kafka_bootstrap=self.bootstrap)

    def start(self) -> subprocess.Popen[bytes]:
        env = {
            **os.environ,
            "FLYWHEEL_KAFKA_BOOTSTRAP": self.bootstrap,
            "FLYWHEEL_REDIS_URL": self.redis_url,
            "FLYWHEEL_DATA_DIR": str(self.data),
            "FLYWHEEL_FEATURES_METRICS_PORT": str(self.metrics_port),
            "FLYWHEEL_ARCHIVE_TRIGGER_MS": "1000",
            "FLYWHEEL_DECISIONS_TRIGGER_MS": "1000",
            "FLYWHEEL_SPARK_HEAP_MIB": "768",
        }
        with (self.data / "features.log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", "services.features"], env=env, stdout=log, stderr=log)

    def log(self) -> str:
        return f"the service said:\n{(self.data / 'features.log').read_text()[-3000:]}"

    def send(self, events: list[Event]) -> None:
        """Puts the events into the broker as ingest does."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "acks": "all"})
        for event in events:
            value = Envelope.seal(event, ingest_time=datetime.now(UTC), request_id="test").to_bytes()
            key = str(getattr(event, event.partition_key)).encode()
            producer.produce(event_topic("fraud", event.event_name).name, value, key)
        assert producer.flush(10) == 0
        self.sent += events
        self.records += len(events)

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def metric(self, name: str, **labels: str) -> float:
        wanted = name + "{" + ",".join(f'{key}="{value}"' for key, value in sorted(labels.items())) + "}"
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=2) as answer:
            lines = answer.read().decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(wanted)), 0.0)

    def distinct(self) -> list[Event]:
        """What was sent, each id once: as it was sent first."""
        return list({event.event_id: event for event in reversed(self.sent)}.values())


def until(condition: Callable[[], bool], what: str, stack: Stack, timeout_s: float = 150.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(
                f"{what} within {timeout_s} s; the service said:\n{(stack.data / 'features.log').read_text()[-3000:]}"
            )
        time.sleep(0.1)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("features")
    node = broker.Broker(directory / "kafka", free_port(), free_port())
    broker.prepare(node)
    port = free_port()
    for name in ("redis", "data"):
        (directory / name).mkdir()
    with (
        running(broker.command(node), BrokerAnswers(node.bootstrap), directory / "broker.log"),
        running(online_store.command(directory / "redis", port), RedisAnswers(port), directory / "redis.log"),
    ):
        create_topics(node.bootstrap, topics_of("fraud", NAMES))
        yield Stack(node.bootstrap, f"redis://127.0.0.1:{port}/0", directory / "data", free_port())


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


def lot(rng: random.Random, tag: str, offset_us: int, number: int) -> list[Event]:
    """Events over eleven days and few entities, within lateness out of order, some twice."""
    events: list[Event] = []
    for index in range(number):
        at_us = START_US + offset_us + index * 11 * DAY_US // number - rng.randrange(20 * HOUR_US)
        common: dict[str, Any] = {
            "event_time": from_us(at_us - at_us % rng.choice((1, 60_000_000))),
            "card_id": f"card-{rng.randrange(12)}",
            "terminal_id": f"terminal-{rng.randrange(6)}",
            "amount_cents": rng.randrange(1, 50_000),
        }
        if rng.random() < 0.15:
            events.append(Chargeback(event_id=f"{tag}-{index}", transaction_id=f"x-{index}", **common))
        else:
            events.append(Transaction(event_id=f"{tag}-{index}", **common))
        if rng.random() < 0.1:
            events.append(events[rng.randrange(max(len(events) - 20, 0), len(events))])
    return events


def counted(stack: Stack) -> dict[str, int]:
    writer = RedisFeatureWriter(stack.redis_url, PLAN)
    try:
        return writer.counters()
    finally:
        writer.close()


def await_counts(stack: Stack) -> None:
    wanted = expected_counts(stack)
    found: dict[str, int] = {}

    def arrived() -> bool:
        found.update(counted(stack))
        return found == wanted

    try:
        until(arrived, "counted", stack)
    except pytest.fail.Exception:
        pytest.fail(f"{found} were counted of {wanted}; {stack.log()}")


def expected_counts(stack: Stack) -> dict[str, int]:
    events = stack.distinct()
    return {
        f"{view.name}.{kind.event_name}": sum(isinstance(event, kind) for event in events)
        for view in PLAN.views
        for kind in view.events
    }


def oracle(feature: WindowedFeature, events: list[Event], entity_id: str, at_us: int, *, exact_head: bool) -> float:
    """The feature from first principles: look at every event."""
    floor = at_us // feature.step_us * feature.step_us
    low = floor - feature.delay_us - feature.window_us
    high = floor - feature.delay_us - 1 if feature.delay_us else (at_us if exact_head else floor + feature.step_us - 1)
    values = [
        float(getattr(event, feature.field)) if feature.field else 1.0
        for event in events
        if isinstance(event, feature.event)
        and getattr(event, feature.entity.key) == entity_id
        and low <= event.event_time_us <= high
    ]
    if feature.statistic is Statistic.COUNT:
        return float(len(values))
    if feature.statistic is Statistic.SUM:
        return sum(values)
    if not values:
        return feature.default
    if feature.statistic is Statistic.MEAN:
        return sum(values) / len(values)
    return min(values) if feature.statistic is Statistic.MIN else max(values)


def test_states_equal_the_oracle_after_a_kill(lived: Stack) -> None:
    writer = RedisFeatureWriter(lived.redis_url, PLAN)
    events = lived.distinct()
    checked = 0
    for view in PLAN.views:
        for entity_id in sorted({str(getattr(event, view.entity.key)) for event in events}):
            (raw,) = writer.read([ViewKey(view.name, entity_id)])
            assert raw is not None
            state = EntityState.unpack(view, raw)
            for at_us in (
                state.newest_us,
                state.newest_us + 7,
                state.newest_us + HOUR_US,
                state.newest_us + 3 * DAY_US,
            ):
                wanted = [oracle(f, events, entity_id, at_us, exact_head=False) for f in view.features]
                assert fold(view, state, at_us, None) == wanted, (entity_id, at_us)
                checked += 1
    writer.close()
    assert checked == 4 * 18


def test_every_record_is_archived_once(lived: Stack) -> None:
    until(lambda: archived(lived) == lived.records, "all archived", lived)
    assert (
        sum(lived.metric("flywheel_features_archived_events", usecase="fraud", event=n) for n in NAMES) == lived.records
    )
    assert sorted(ids(lived)) == sorted(event.event_id for event in lived.sent)


def archived(stack: Stack) -> int:
    return sum(ds.dataset(path, partitioning="hive").count_rows() for path in lakes(stack))


def ids(stack: Stack) -> list[str]:
    return [row for path in lakes(stack) for row in ds.dataset(path).to_table(["event_id"])["event_id"].to_pylist()]


def lakes(stack: Stack) -> list[Path]:
    return [path for name in NAMES if (path := stack.data / "lake" / "fraud" / name).exists()]


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
    events = lived.distinct()
    requests = {event.event_id: event for event in events if isinstance(event, Transaction)}
    assert built.request_id == "r1"
    assert built.rows == len(requests)
    assert to_us(built.event_time_until) == max(event.event_time_us for event in requests.values())
    for view in PLAN.views:
        rows = ds.dataset(Path(built.path) / view.history_name / f"snapshot={built.snapshot_id}").to_table().to_pylist()
        assert {row["event_id"] for row in rows} == set(requests)
        assert len(rows) == len(requests)
        for row in random.Random(1).sample(rows, 300):
            event, entity_id = requests[row["event_id"]], row[view.entity.key]
            assert to_us(row["event_timestamp"]) == event.event_time_us
            wanted = [oracle(f, events, entity_id, event.event_time_us, exact_head=True) for f in view.features]
            assert [row[f.name] for f in view.features] == wanted, (event, row)


@pytest.fixture
def environment() -> Iterator[None]:
    """Feast tells prometheus_client, by the environment, to keep metrics in files; no later test may inherit it."""
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]


@pytest.mark.usefixtures("environment")
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
    fields = {"amount_cents": float(request.amount_cents)}
    own = OwnEvent("transaction", id_hash(request.event_id), fields)
    columns = {name: np.array([value]) for name, value in request_columns(request).items()}
    for view in PLAN.views:
        (raw,) = writer.read([ViewKey(view.name, str(getattr(request, view.entity.key)))])
        values = fold(view, None if raw is None else EntityState.unpack(view, raw), request.event_time_us, own)
        columns |= {f.name: np.array([value]) for f, value in zip(view.features, values, strict=True)}
    writer.close()
    return assemble(usecase, columns)


@pytest.mark.usefixtures("environment")
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
        names = [feature.name for feature in view.features]
        wanted = rows.set_index("event_id")[names].loc[frame.index]
        assert np.array_equal(frame[names].to_numpy(), wanted.to_numpy())


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
    elsewhere = Stack(lived.bootstrap, lived.redis_url, lived.data / "elsewhere", free_port())
    elsewhere.data.mkdir()
    process = elsewhere.start()
    assert process.wait(60) == 1
    last = json.loads((elsewhere.data / "features.log").read_text().splitlines()[-1])
    assert last["event"] == "features_cannot_start"
    assert "is gone" in last["reason"]
    assert "make clean" in last["reason"]
