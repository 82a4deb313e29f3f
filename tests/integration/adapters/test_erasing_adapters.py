"""What finds and removes an entity in Redis, in the broker's log and in the lake, on the real engines."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from confluent_kafka.admin import AdminClient

from flywheel.adapters.feast_keys import EntityKeys
from flywheel.adapters.kafka_residue import find_residue
from flywheel.adapters.kafka_topics import configs_of, create_topics, keep_as_declared, publish
from flywheel.adapters.redis_erasure import RedisEraser
from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.contracts.topics import Topic, erasures_topic, event_topic
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ports import Lane, StoreProgress, Unavailable
from flywheel.kernel.stored import JoinKey
from infra.local import online_store
from infra.local.readiness import RedisAnswers
from tests.engines import free_port, running
from usecases.fraud import usecase

PLAN = compile_plan(usecase)

pytestmark = pytest.mark.engine

HOUR_US = 3_600_000_000


def entity_key(project: str, **values: str) -> bytes:
    (key,) = EntityKeys(project, [JoinKey(name) for name in values]).encode([[value] for value in values.values()])
    return key


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[Any, RedisEraser, Path]]:
    port = free_port()
    with running(online_store.command(tmp_path, port), RedisAnswers(port), tmp_path / "redis.log"):
        client = redis.Redis(port=port)
        eraser = RedisEraser(f"redis://127.0.0.1:{port}/0", "fraud")
        yield client, eraser, tmp_path
        eraser.close()
        client.close()


def test_every_key_that_names_the_entity_goes_and_no_other(store: tuple[Any, RedisEraser, Path]) -> None:
    client, eraser, _ = store
    mine = [entity_key("fraud", card_id="c1"), entity_key("fraud", card_id="c1", terminal_id="t1")]
    others = [
        entity_key("fraud", card_id="c12"),
        entity_key("fraud", terminal_id="c1"),
        entity_key("ads", card_id="c1"),
        entity_key("ads", card_id="c1", terminal_id="t1"),
        b"fraud:progress",
    ]
    for key in (*mine, *others):
        client.hset(key, "f", b"c1")
    for number in range(3_000):
        client.set(f"filler-{number}-c1", b"")
    assert eraser.count({"card_id": "c1"}) == 2
    assert eraser.remove({"card_id": "c1"}) == 2
    assert eraser.remove({"card_id": "c1"}) == 0
    assert client.exists(*mine) == 0
    assert client.exists(*others) == len(others)
    assert eraser.count({"card_id": "c1", "terminal_id": "t1"}) == 0


def test_an_id_with_the_signs_of_a_pattern_is_taken_by_the_letter(store: tuple[Any, RedisEraser, Path]) -> None:
    client, eraser, _ = store
    for name in ("c[1-3]*?", "c2", "c1x"):
        client.hset(entity_key("fraud", card_id=name), "f", b"v")
    assert eraser.remove({"card_id": "c[1-3]*?"}) == 1
    assert eraser.count({"card_id": "c2"}) == 1


def test_nothing_of_the_removed_stays_in_the_append_only_file(store: tuple[Any, RedisEraser, Path]) -> None:
    client, eraser, directory = store
    client.hset(entity_key("fraud", card_id="somebody-unmistakable"), "f", b"v")
    client.hset(entity_key("fraud", card_id="somebody-else"), "f", b"v")

    def on_disk(name: bytes) -> bool:
        return any(name in file.read_bytes() for file in directory.glob("**/appendonly*") if file.is_file())

    assert on_disk(b"somebody-unmistakable")
    client.bgrewriteaof()
    assert eraser.remove({"card_id": "somebody-unmistakable"}) == 1
    assert not on_disk(b"somebody-unmistakable")
    assert on_disk(b"somebody-else")


def test_progress_as_the_stream_reports_it(store: tuple[Any, RedisEraser, Path]) -> None:
    client, eraser, _ = store
    assert eraser.progress() == {}
    writer = RedisFeatureWriter(f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}/0", PLAN)
    writer.absorb({0: 1}, None)
    writer.report(Lane.TILES, StoreProgress(5, 7))
    assert eraser.progress() == {Lane.TILES: StoreProgress(5, 7)}
    writer.report(Lane.EDGE, StoreProgress(6, 8))
    assert eraser.progress() == {Lane.TILES: StoreProgress(5, 7), Lane.EDGE: StoreProgress(6, 8)}
    writer.close()


def test_a_store_that_is_away_says_so() -> None:
    eraser = RedisEraser(f"redis://127.0.0.1:{free_port()}/0", "fraud")
    for ask in (eraser.progress, lambda: eraser.remove({"card_id": "c1"})):
        with pytest.raises(Unavailable):
            ask()
    eraser.close()


def topic(hours: int | None) -> Topic:
    return Topic(f"residue.{uuid.uuid4().hex}", "bytes", (), (), partitions=2, retention_hours=hours)


def test_what_the_broker_still_holds_is_found_and_dated(kafka: str) -> None:
    kept, forever, empty = topic(5), topic(None), topic(5)
    create_topics(kafka, [kept, forever, empty])
    before_us = time.time_ns() // 1000
    for number in range(9):
        publish(kafka, kept.name, b"c1" if number % 3 == 0 else b"c2", b"v")
        publish(kafka, forever.name, b"k", b"c1" if number == 4 else b"v")
    after_us = time.time_ns() // 1000

    def wanted(key: bytes, value: bytes, arrived_us: int) -> bool:
        assert before_us - 1000 <= arrived_us <= after_us
        return b"c1" in (key, value)

    started_s = time.monotonic()
    found = find_residue(kafka, [kept.name, forever.name, empty.name, "residue.nowhere"], wanted, timeout_s=30)
    # What is there is not waited for.
    assert time.monotonic() - started_s < 30
    assert [(one.topic, one.records, one.examined) for one in found] == [
        (kept.name, 3, 9),
        (forever.name, 1, 9),
        (empty.name, 0, 0),
    ]
    assert found[0].gone_by_us is not None
    # Five hours after it arrived, and the five after which its segment is closed.
    assert before_us - 1000 <= found[0].gone_by_us - 10 * HOUR_US <= after_us
    assert found[1].gone_by_us is None


def test_a_broker_that_is_away_is_told(kafka: str) -> None:
    assert kafka
    with pytest.raises(Unavailable):
        find_residue(f"127.0.0.1:{free_port()}", ["t"], lambda *_: True, timeout_s=1.0)


def test_topics_keep_their_records_as_declared_also_when_they_were_there_before(kafka: str) -> None:
    usecase = uuid.uuid4().hex
    events, erasures = event_topic(usecase, "transaction"), erasures_topic(usecase)
    before = Topic(events.name, "bytes", (), (), partitions=2)
    create_topics(kafka, [before, erasures])
    assert keep_as_declared(kafka, [events, erasures]) == (events.name,)
    assert keep_as_declared(kafka, [events, erasures]) == ()
    found = configs_of(AdminClient({"bootstrap.servers": kafka}), [events.name, erasures.name], 10.0)
    assert int(found[events.name]["retention.ms"]) == 28 * 24 * 3_600_000
    assert int(found[events.name]["segment.ms"]) == 24 * 3_600_000
    assert found[erasures.name]["cleanup.policy"] == "compact"
    assert found[erasures.name]["retention.ms"] == "-1"
