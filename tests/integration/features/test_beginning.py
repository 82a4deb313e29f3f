"""On a real broker the stream begins after a rebuild: it knows the ids it counted and reads partitions added since."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from pyspark.sql import DataFrame, SparkSession

from flywheel.adapters.kafka_offsets import KafkaOffsets
from flywheel.adapters.spark_arrivals import OFFSET, PARTITION, arrivals
from flywheel.adapters.spark_events import read_stream
from flywheel.contracts.events import Envelope
from flywheel.contracts.topics import event_topic
from flywheel.kernel.plan import compile_plan
from services.features.beginning import starting_offsets
from tests.wide_declaration import USECASE, Order

pytestmark = pytest.mark.engine

PLAN = compile_plan(USECASE)
TOPICS = [event_topic(USECASE.name, event.event_name).name for event in PLAN.events]
NOON = datetime(2018, 6, 1, 12, tzinfo=UTC)


def send(bootstrap: str, partition: int, *event_ids: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    for event_id in event_ids:
        order = Order(
            event_id=event_id,
            event_time=NOON,
            buyer="b",
            seller="s",
            shop="a",
            cents=1,
            weight=None,
            stall=7,
            parcel=None,
        )
        value = Envelope.seal(order, ingest_time=NOON, request_id="r").to_bytes()
        producer.produce(TOPICS[0], value, partition=partition)
    assert producer.flush(10) == 0


def test_an_id_that_was_counted_before_the_rebuild_is_known(session: SparkSession, kafka: str, tmp_path: Path) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    for made in admin.create_topics([NewTopic(topic, 1, 1) for topic in TOPICS]).values():
        made.result(10)
    send(kafka, 0, "e0", "e1")
    rebuilt = {TOPICS[0]: {"0": 2}}
    admin.create_partitions([NewPartitions(TOPICS[0], 2)])[TOPICS[0]].result(10)
    send(kafka, 0, "e1", "e2")
    send(kafka, 1, "e3")

    offsets = KafkaOffsets(kafka, TOPICS, timeout_s=10)
    start = starting_offsets(rebuilt, {(TOPICS[0], 0): 0}, offsets.firsts())
    offsets.close()
    found: list[tuple[int, int]] = []

    def keep(batch: DataFrame, _: int) -> None:
        found.extend((row[PARTITION], row[OFFSET]) for row in batch.collect())

    records = read_stream(session, kafka, USECASE.name, PLAN.events, start=start)
    query = arrivals(records, PLAN).writeStream.foreachBatch(keep).trigger(availableNow=True)
    query.option("checkpointLocation", str(tmp_path / "checkpoint")).start().awaitTermination()
    # The first two are below the rebuilt position: the states pass over them.
    assert sorted(found) == [(0, 0), (0, 1), (0, 3), (1, 0)]
