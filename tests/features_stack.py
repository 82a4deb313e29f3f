"""A broker, a store and the features service's processes over them, for tests that send events and look at features."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from confluent_kafka import Producer

from flywheel.adapters.kafka_topics import create_topics
from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.contracts.events import Envelope, Event, from_us, to_us
from flywheel.contracts.settings import PlatformSettings
from flywheel.contracts.topics import event_topic, topics_of
from flywheel.kernel.durations import DAY_US, HOUR_US
from flywheel.kernel.fold import Reading
from flywheel.kernel.hydration import opened
from flywheel.kernel.plan import TileView, compile_plan
from flywheel.kernel.ports import ViewKey
from flywheel.kernel.rows import event_hash, rows_about
from infra.local import broker, online_store
from infra.local.readiness import BrokerAnswers, RedisAnswers
from tests.engines import free_port, running
from tests.window_oracle import Happened, window_value
from usecases.fraud import usecase
from usecases.fraud.events import Chargeback, Transaction

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
    edge_port: int
    sent: list[Event] = field(default_factory=list)
    arrivals: dict[Event, int] = field(default_factory=dict)
    """When each event arrived first, in microseconds."""
    records: int = 0

    def settings(self) -> PlatformSettings:
        return PlatformSettings(data_dir=self.data, redis_url=self.redis_url, kafka_bootstrap=self.bootstrap)

    def start(self, module: str = "services.features", *arguments: str) -> subprocess.Popen[bytes]:
        """The process; `services.features.edge` is the other one."""
        env = {
            **os.environ,
            "FLYWHEEL_KAFKA_BOOTSTRAP": self.bootstrap,
            "FLYWHEEL_REDIS_URL": self.redis_url,
            "FLYWHEEL_DATA_DIR": str(self.data),
            "FLYWHEEL_FEATURES_METRICS_PORT": str(self.metrics_port),
            "FLYWHEEL_EDGE_METRICS_PORT": str(self.edge_port),
            "FLYWHEEL_ARCHIVE_TRIGGER_MS": "1000",
            "FLYWHEEL_DECISIONS_TRIGGER_MS": "1000",
            "FLYWHEEL_SPARK_HEAP_MIB": "768",
        }
        with (self.data / "features.log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", module, *arguments], env=env, stdout=log, stderr=log)

    def log(self) -> str:
        return f"the service said:\n{(self.data / 'features.log').read_text()[-3000:]}"

    def send(self, events: list[Event]) -> None:
        """Puts the events into the broker as ingest does."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "acks": "all"})
        for event in events:
            now = datetime.now(UTC)
            self.arrivals.setdefault(event, to_us(now))
            value = Envelope.seal(event, ingest_time=now, request_id="test").to_bytes()
            key = str(getattr(event, event.partition_key)).encode()
            producer.produce(event_topic("fraud", event.event_name).name, value, key)
        assert producer.flush(10) == 0
        self.sent += events
        self.records += len(events)

    def is_ready(self, port: int | None = None) -> bool:
        """Whether the process on that port, the features service's if none is said, can do its work."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port or self.metrics_port}/readyz", timeout=2) as answer:
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


@contextmanager
def engines(directory: Path) -> Iterator[Stack]:
    """A broker with the topics and a store, both empty, and no service yet."""
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
        yield Stack(node.bootstrap, f"redis://127.0.0.1:{port}/0", directory / "data", free_port(), free_port())


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


def happened(event: Event) -> Happened:
    """The event as the oracle knows it."""
    return Happened(event.event_name, event.event_id, event.event_time_us, event.model_dump())


def oracle(view: TileView, events: list[Happened], entity_id: str, at_us: int, own: Event | None = None) -> list[float]:
    """The view's features from first principles: look at every event."""
    mine = None if own is None else happened(own)
    return [window_value(feature, (entity_id,), events, at_us, own=mine) for feature in view.features]


def read(
    writer: RedisFeatureWriter, view: TileView, entity_id: str, at_us: int, own: Event | None = None
) -> list[float]:
    """The view's features as a decision reads them."""
    (stored,) = writer.read([ViewKey(view.name, entity_id)])
    state, arrived = opened(view, stored)
    tie = None if own is None else event_hash(own.event_name, own.event_id)
    rows = None if own is None or tie is None else rows_about(view, own, entity_id, tie)
    return [float(value) for value in Reading(view).values(state, arrived, at_us, own=rows, own_tie=tie)]


def entities(view: TileView, events: list[Event]) -> list[str]:
    """Every entity of the view that has an event."""
    (key,) = view.entity.keys
    return sorted({str(getattr(event, key)) for event in events})


def archived(stack: Stack) -> int:
    return sum(ds.dataset(path, partitioning="hive").count_rows() for path in lakes(stack))


def ids(stack: Stack) -> list[str]:
    return [row for path in lakes(stack) for row in ds.dataset(path).to_table(["event_id"])["event_id"].to_pylist()]


def lakes(stack: Stack) -> list[Path]:
    return [path for name in NAMES if (path := stack.data / "lake" / "fraud" / name).exists()]


def wrong_features(stack: Stack) -> list[str]:
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
