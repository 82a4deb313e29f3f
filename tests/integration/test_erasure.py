"""A person erased by the command is gone from every store, and no replay of the broker's log brings them back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
from confluent_kafka import Producer

from flywheel.adapters.dead_letter_folder import FOLDER, DeadLetterFolder
from flywheel.adapters.feast_key_reader import join_keys
from flywheel.adapters.kafka_erasures import KafkaErasures
from flywheel.adapters.kafka_reader import KafkaReader
from flywheel.adapters.kafka_topics import create_topics, publish
from flywheel.adapters.parquet_erasure import files
from flywheel.client.commands import main
from flywheel.contracts.decisions import DecisionLogged, Fallback, FeatureStatus
from flywheel.contracts.events import Envelope, from_us, to_us
from flywheel.contracts.settings import PlatformSettings
from flywheel.contracts.topics import (
    decisions_topic,
    event_topic,
    history_topic,
    topics_of,
    training_requests_topic,
)
from flywheel.contracts.training import TrainingRequested
from flywheel.kernel.durations import MINUTE_US
from flywheel.kernel.erasure import EraseKey, words
from infra.local import broker, online_store
from infra.local.readiness import BrokerAnswers, RedisAnswers
from tests.engines import free_port, running, stop
from usecases.fraud import usecase
from usecases.fraud.events import Chargeback, Transaction

pytestmark = pytest.mark.engine

Payment = Transaction | Chargeback

NAMES = tuple(event.event_name for event in usecase.events)
START_US = to_us(datetime(2018, 4, 1, tzinfo=UTC))
CARDS, PAYMENTS = 6, 240
ERASED, NEVER_BACK = "card-1", "card-3"
BAD = (
    (b"card-1", b"card-1 is no JSON"),
    (b"card-2", b'{"card_id": "card-1", "event_id": "bad-1"}'),
    (b"card-1", b'{"event": {"event_id": "bad-2"}, "ingest_time": "2026-01-01T00:00:00.000000Z", "request_id": "r"}'),
    (b"card-2", b"\xff\x00"),
    (b"card-2", b'{"event": {"card_id": "card-12"}}'),
)
"""Three of them are about the card that is erased."""


@dataclass
class Stack:
    bootstrap: str
    redis_port: int
    directory: Path

    def environment(self, data: Path, database: int) -> dict[str, str]:
        return {
            "FLYWHEEL_KAFKA_BOOTSTRAP": self.bootstrap,
            "FLYWHEEL_REDIS_URL": f"redis://127.0.0.1:{self.redis_port}/{database}",
            "FLYWHEEL_DATA_DIR": str(data),
            "FLYWHEEL_ARCHIVE_TRIGGER_MS": "1000",
            "FLYWHEEL_DECISIONS_TRIGGER_MS": "1000",
            "FLYWHEEL_SPARK_HEAP_MIB": "768",
            "FLYWHEEL_FEATURES_METRICS_PORT": str(free_port()),
        }

    def client(self, database: int) -> redis.Redis:
        return redis.Redis(port=self.redis_port, db=database)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("erasure")
    node = broker.Broker(directory / "kafka", free_port(), free_port())
    broker.prepare(node)
    port = free_port()
    (directory / "redis").mkdir()
    with (
        running(broker.command(node), BrokerAnswers(node.bootstrap), directory / "broker.log"),
        running(online_store.command(directory / "redis", port), RedisAnswers(port), directory / "redis.log"),
    ):
        create_topics(node.bootstrap, topics_of("fraud", NAMES))
        yield Stack(node.bootstrap, port, directory)


@contextmanager
def features(stack: Stack, data: Path, database: int) -> Iterator[None]:
    """The features service over a data directory and a database of Redis."""
    data.mkdir()
    with (data / "features.log").open("wb") as log:
        command = [sys.executable, "-m", "services.features"]
        env = {**os.environ, **stack.environment(data, database)}
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        yield
        assert process.poll() is None, (data / "features.log").read_text()[-3000:]
    finally:
        stop(process)


def until(condition: Callable[[], bool], what: str, data: Path, timeout_s: float = 180.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not {what} within {timeout_s} s:\n{(data / 'features.log').read_text()[-3000:]}")
        time.sleep(0.1)


def payments() -> list[Payment]:
    found: list[Payment] = []
    for number in range(PAYMENTS):
        common: dict[str, Any] = {
            "event_time": from_us(START_US + number * MINUTE_US),
            "card_id": f"card-{number % CARDS}",
            "terminal_id": f"terminal-{number % 4}",
            "amount_cents": 100 + number,
        }
        found.append(Transaction(event_id=f"tx-{number}", **common))
        if number % 20 == 1:
            found.append(Chargeback(event_id=f"cb-{number}", transaction_id=f"tx-{number}", **common))
    return found


def decided(card: str) -> DecisionLogged:
    """About the card's first payment."""
    return DecisionLogged(
        decision_id=f"d-{card}",
        request_id="r",
        usecase="fraud",
        event_id=f"tx-{card.removeprefix('card-')}",
        event_time=from_us(START_US),
        decided_at=datetime.now(UTC),
        unit=card,
        arm="champion",
        model_version="v1",
        score=0.5,
        action="approve",
        reasons=("one", "two"),
        fallback=Fallback.NONE,
        feature_names=("a", "b"),
        features=(1.0, 2.0),
        feature_status={"card": FeatureStatus.FRESH},
        feature_lag_ms=3.0,
        stage_ms={"total": 1.0},
        value=100.0,
    )


def send(stack: Stack, events: list[Payment]) -> None:
    producer = Producer({"bootstrap.servers": stack.bootstrap, "acks": "all"})
    for event in events:
        value = Envelope.seal(event, ingest_time=datetime.now(UTC), request_id="test").to_bytes()
        producer.produce(event_topic("fraud", event.event_name).name, value, event.card_id.encode())
    assert producer.flush(10) == 0


def rows(directory: Path) -> list[dict[str, Any]]:
    return [row for file in files(directory) for row in pq.ParquetFile(file).read().to_pylist()]


def mentions(directory: Path, *names: str) -> list[Path]:
    """Files below the directory of which a text or binary value has one of the names as a word."""
    found = []
    for file in directory.glob("**/*"):
        if file.is_file() and file.suffix == ".parquet":
            columns = [c for c in pq.ParquetFile(file).read().columns if not pa.types.is_timestamp(c.type)]
            raw = b" ".join(v if isinstance(v, bytes) else str(v).encode() for c in columns for v in c.to_pylist())
            if not set(names).isdisjoint(words(raw)):
                found.append(file)
    return found


def cards_in(stack: Stack, database: int) -> dict[bytes, dict[bytes, bytes]]:
    """Every entity's row."""
    client: Any = stack.client(database)
    keys = [key for key in client.keys("*") if join_keys(key, "fraud")]
    found = {key: client.hgetall(key) for key in keys}
    client.close()
    return found


def names_card(key: bytes) -> bool:
    return (join_keys(key, "fraud") or {}).get("card_id") == ERASED


def say(stack: Stack, data: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> int:
    for name, value in stack.environment(data, 0).items():
        monkeypatch.setenv(name, value)
    return main(line.split())


def build_history(stack: Stack) -> None:
    request = TrainingRequested(request_id="r1", requested_at=datetime.now(UTC), reason="test")
    publish(stack.bootstrap, training_requests_topic("fraud").name, b"r1", request.to_bytes())
    reader = KafkaReader(stack.bootstrap, [history_topic("fraud").name], "test")
    deadline = time.monotonic() + 120
    while not reader.poll(1.0, 1):
        assert time.monotonic() < deadline, "no history was built"
    reader.close()


def test_erased_everywhere_and_for_good(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = payments()
    mine = [event for event in sent if event.card_id == ERASED]
    own_ids = [event.event_id for event in mine]
    send(stack, sent)
    for key, value in BAD:
        publish(stack.bootstrap, event_topic("fraud", "transaction").name, key, value)
    for card in (ERASED, "card-2"):
        publish(stack.bootstrap, decisions_topic("fraud").name, card.encode(), decided(card).to_bytes())
    data = stack.directory / "first"
    lake, history = data / "lake" / "fraud", data / "history" / "fraud"
    letters = DeadLetterFolder(lake / FOLDER)
    with features(stack, data, 0):
        until(lambda: letters.kept() == len(BAD) and len(archived(lake)) == len(sent), "archived", data)
        assert letters.seen()["unreadable"] + len(archived(lake)) == len(sent) + len(BAD)
        until(lambda: any(map(names_card, cards_in(stack, 0))), "counted", data)
        build_history(stack)
        until(lambda: len(rows(lake / "decisions")) == 2, "decisions archived", data)
        was_logged = {row["unit"]: row for row in rows(lake / "decisions")}
        assert mentions(history, ERASED)
        assert mentions(history, own_ids[0])

        before = cards_in(stack, 0)
        assert say(stack, data, monkeypatch, f"erase fraud card {ERASED} --dry-run") == 0
        looked = numbers(capsys.readouterr().out)
        assert cards_in(stack, 0) == before
        assert len(archived(lake)) == len(sent)

        assert say(stack, data, monkeypatch, f"erase fraud card {ERASED}") == 0
        told = capsys.readouterr()
        erased_at = datetime.now(UTC)
        assert numbers(told.out) == looked
        assert looked == {
            "online store": 1,
            "training history: fraud_card_history": PAYMENTS // CARDS,
            "training history: fraud_terminal_history": PAYMENTS // CARDS,
            "dead letters": 3,
            "world's truth": 0,
            "lake: decisions": 1,
            "lake: chargeback": len(mine) - PAYMENTS // CARDS,
            "lake: transaction": PAYMENTS // CARDS,
            "fraud.events.transaction": PAYMENTS // CARDS + 3,
            "fraud.events.chargeback": len(mine) - PAYMENTS // CARDS,
            "fraud.decisions": 1,
        }
        assert not any(ERASED in line for line in told.err.splitlines())
        audited = json.loads(next(line for line in told.err.splitlines() if '"erased"' in line))
        assert audited["removed"]["lake: transaction"] == PAYMENTS // CARDS
        assert audited["erased_by"]

        assert mentions(data / "lake", ERASED, *own_ids) == []
        assert mentions(history, ERASED, *own_ids) == []
        assert len(archived(lake)) == len(sent) - len(mine)
        assert rows(lake / "decisions") == [was_logged["card-2"]]
        after = cards_in(stack, 0)
        assert after == {key: row for key, row in before.items() if not names_card(key)}
        assert len(after) == len(before) - 1

        again = Transaction(
            event_id="tx-again",
            event_time=from_us(START_US + PAYMENTS * MINUTE_US),
            card_id=ERASED,
            terminal_id="terminal-1",
            amount_cents=5,
        )
        send(stack, [again])
        until(lambda: len(archived(lake)) == len(sent) - len(mine) + 1, "archived again", data)
        assert [row["event_id"] for row in archived(lake) if row["card_id"] == ERASED] == ["tx-again"]
        assert say(stack, data, monkeypatch, f"erase fraud card {NEVER_BACK} --skip-log") == 0

    said = (data / "features.log").read_bytes()
    assert {f"card-{number}" for number in range(CARDS)}.isdisjoint(words(said))
    replayed(stack, sent, [event for event in sent if event.card_id in (ERASED, NEVER_BACK)], erased_at)


def replayed(stack: Stack, sent: list[Payment], mine: list[Payment], erased_at: datetime) -> None:
    """The whole log once more, into a new lake."""
    data = stack.directory / "second"
    lake = data / "lake" / "fraud"
    letters = DeadLetterFolder(lake / FOLDER)
    with features(stack, data, 1):
        until(lambda: letters.seen().get("unreadable") == len(BAD), "replayed", data)
        until(lambda: len(archived(lake)) == len(sent) - len(mine) + 1, "archived", data)
        assert letters.seen() == {"unreadable": len(BAD), "erased": len(mine)}
        # They are counted before they are kept.
        until(lambda: [letter.key for letter in letters.letters()] == [b"card-2", b"card-2"], "dead letters kept", data)
        of_card = [row for row in archived(lake) if row["card_id"] == ERASED]
        assert [row["event_id"] for row in of_card] == ["tx-again"]
        assert of_card[0]["ingest_time"] > erased_at
        assert mentions(lake, *(event.event_id for event in mine)) == []
        until(lambda: len(rows(lake / "decisions")) == 1, "decisions archived", data)
        assert [row["unit"] for row in rows(lake / "decisions")] == ["card-2"]
        others = {f"card-{number}" for number in range(CARDS)} - {NEVER_BACK}
        until(lambda: known_cards(stack, 1) >= others, "counted", data)
        assert known_cards(stack, 1) == others


def known_cards(stack: Stack, database: int) -> set[str]:
    keys = (join_keys(key, "fraud") or {} for key in cards_in(stack, database))
    return {key["card_id"] for key in keys if "card_id" in key}


def archived(lake: Path) -> list[dict[str, Any]]:
    return [row for name in NAMES if (lake / name).is_dir() for row in rows(lake / name)]


def numbers(said: str) -> dict[str, int]:
    """What the command's tables say, by their first column."""
    found = {}
    for line in said.splitlines():
        cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
        if len(cells) > 1 and cells[1].isdigit():
            found[cells[0]] = int(cells[1])
    return found


def test_the_audit_is_in_the_topic(stack: Stack) -> None:
    settings = PlatformSettings(_env_file=None)
    log = KafkaErasures(stack.bootstrap, EraseKey(settings.erasure_key.encode(), "fraud"))
    erasures = log.current()
    log.close()
    assert erasures.covers("card", ERASED, START_US)
    assert not erasures.covers("card", "card-2", START_US)
