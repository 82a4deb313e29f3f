"""Readers that share the partitions of a real broker's topic, and tell each other how far they are."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import pytest
from confluent_kafka import Producer

from flywheel.adapters.kafka_follower import KafkaFollower
from flywheel.adapters.kafka_positions import KafkaPositions, Noted
from flywheel.adapters.kafka_topics import add_partitions, create_topics
from flywheel.contracts.topics import Topic
from flywheel.kernel.ports import Unavailable
from infra.local.readiness import until
from services.features.edge.peers import KafkaPeers
from services.features.edge.share import Share, Told

pytestmark = pytest.mark.engine

_WITHIN_S = 20.0
PARTITIONS = 4


def awaited(condition: Callable[[], bool]) -> bool:
    return until(condition, _WITHIN_S, clock=time.monotonic, pause=lambda: time.sleep(0.02))


@pytest.fixture
def topic(kafka: str) -> Topic:
    made = Topic(f"shared-{uuid.uuid4().hex}", "text", (), (), partitions=PARTITIONS)
    create_topics(kafka, [made])
    return made


@pytest.fixture
def two(kafka: str) -> Iterator[tuple[KafkaPositions, KafkaPositions]]:
    group = f"positions-{uuid.uuid4().hex}"
    made = KafkaPositions(kafka, group), KafkaPositions(kafka, group)
    for each in made:
        # A broker that has never kept positions first makes room for them.
        assert awaited(partial(keeps, each))
    yield made
    for each in made:
        each.close()


def keeps(positions: KafkaPositions) -> bool:
    try:
        return positions.read([("nothing", 0)]) == {}
    except Unavailable:
        return False


def test_what_one_reader_says_another_hears(topic: Topic, two: tuple[KafkaPositions, KafkaPositions]) -> None:
    one, other = two
    first, second = (topic.name, 0), (topic.name, 1)
    assert other.read([first, second]) == {}
    one.write({first: Noted(7, "a note of some words")})
    assert awaited(lambda: other.read([first, second]) == {first: Noted(7, "a note of some words")})
    # Further back, as after a loss, and of two partitions at once.
    one.write({first: Noted(3, ""), second: Noted(0, "new")})
    assert awaited(lambda: other.read([first, second]) == {first: Noted(3, ""), second: Noted(0, "new")})
    assert one.read([first]) == {first: Noted(3, "")}


def test_lanes_understand_each_other_and_nobody_else(topic: Topic, two: tuple[KafkaPositions, KafkaPositions]) -> None:
    one, other = (KafkaPeers(positions) for positions in two)
    said = {
        (topic.name, 0): Told(5, 1_500_000, "stream 1", 2_000_000),
        (topic.name, 1): Told(0, None, "", 2_000_000),
    }
    one.tell(said)
    two[0].write({(topic.name, 2): Noted(9, "somebody's own note"), (topic.name, 3): Noted(9, "")})
    places = [(topic.name, number) for number in range(PARTITIONS)]
    assert awaited(lambda: len(two[1].read(places)) == PARTITIONS)
    assert other.hear(places) == said


def test_each_partition_is_followed_by_one_of_two_also_those_that_are_added(kafka: str, topic: Topic) -> None:
    followers = [KafkaFollower(kafka, [topic.name], wanted=Share(number, 2).has) for number in range(2)]
    found: list[set[int]] = [set(), set()]

    def read(wanted: int) -> bool:
        for partitions, follower in zip(found, followers, strict=True):
            partitions |= {record.partition for record in follower.poll(0.05, 100)}
        return sum(map(len, found)) == wanted

    try:
        for follower in followers:
            follower.start({})
        send(kafka, topic.name, range(PARTITIONS))
        assert awaited(lambda: read(PARTITIONS))
        wider = Topic(topic.name, "text", (), (), partitions=6)
        assert add_partitions(kafka, [wider]) == (topic.name,)
        assert add_partitions(kafka, [wider, topic]) == ()
        send(kafka, topic.name, (4, 5))
        assert awaited(lambda: read(6))
    finally:
        for follower in followers:
            follower.close()
    assert found == [{0, 2, 4}, {1, 3, 5}]


def test_a_lane_without_a_partition_waits(kafka: str, topic: Topic) -> None:
    follower = KafkaFollower(kafka, [topic.name], wanted=lambda number: number >= PARTITIONS)
    follower.start({})
    send(kafka, topic.name, range(PARTITIONS))
    assert follower.poll(0.5, 10) == []
    follower.close()


def send(bootstrap: str, topic: str, partitions: Iterable[int]) -> None:
    """A record for each partition; returns once all are acknowledged."""
    refused: list[object] = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    for number in partitions:
        producer.produce(topic, b"value", b"key", number, on_delivery=lambda e, _: refused.append(e) if e else None)
    assert (producer.flush(_WITHIN_S), refused) == (0, [])
