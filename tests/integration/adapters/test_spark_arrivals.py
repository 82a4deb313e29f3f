"""What is an event: the stream, the lake and the edge lane take in the same records, with the same fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from flywheel.adapters.memory_erasures import MemoryErasures
from flywheel.adapters.spark_archive import Lake
from flywheel.adapters.spark_arrivals import OFFSET, TIME, arrivals
from flywheel.contracts.topics import event_topic
from flywheel.kernel.durations import DAY_US, HOUR_US
from flywheel.kernel.envelopes import open_envelope
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.plan import compile_plan
from tests.wide_declaration import USECASE, Order

pytestmark = pytest.mark.engine

PLAN = compile_plan(USECASE)
NOBODY = MemoryErasures(EraseKey(b"key", USECASE.name)).current()
TOPIC = event_topic(USECASE.name, Order.event_name).name
NOON = "2018-06-01T12:00:00.000000Z"
FIELDS: dict[str, Any] = {
    "event_time": NOON,
    "buyer": "b",
    "seller": "s",
    "shop": "a",
    "cents": 5,
    "weight": 0.5,
    "stall": (1 << 53) + 1,
    "parcel": 5,
}


def value(number: int, event: dict[str, Any] | None = None, **envelope: Any) -> bytes:
    fields = {"event_id": f"e{number}", **FIELDS, **(event or {})}
    return orjson.dumps({"event": fields, "ingest_time": NOON, "request_id": "r", **envelope})


GOOD: list[dict[str, Any]] = [
    {},
    {"weight": None},
    {"weight": "heavy"},
    {"weight": 3},
    {"parcel": 5.5},
    {"parcel": True},
    {"parcel": "5"},
    {"event_time": "2018-06-01T14:00:00+02:00"},
    {"event_time": "2018-06-01T12:00:00.1234567Z"},
    {"more": {"than": "declared"}},
]
BAD: list[dict[str, Any]] = [
    {"cents": None},
    {"cents": "5"},
    {"cents": 5.0},
    {"cents": True},
    {"cents": 1 << 63},
    {"stall": None},
    {"shop": None},
    {"event_id": None},
    {"event_time": None},
    {"event_time": "yesterday"},
    {"event_time": "2018-13-01T12:00:00Z"},
    {"event_time": 1.5},
]
RAW = [b"", b"{", b"null", b"[]", b'{"event":{}}', b'{"event":3}', value(0).replace(b'"', b"'")]
RECORDS = [
    *(value(number, event) for number, event in enumerate([*GOOD, *BAD])),
    value(0, ingest_time=None),
    value(0, ingest_time="never"),
    b"[" + value(0) + b"]",
    value(0).replace(b"0.5", b"NaN").replace(b'"cents":5', b'"cents":NaN'),
    *RAW,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records as the Kafka source gives them."""
    found = tmp_path_factory.mktemp("records")
    number = len(RECORDS)
    columns = {
        "topic": pa.array([TOPIC] * number),
        "partition": pa.array([0] * number, pa.int32()),
        "offset": pa.array(range(number), pa.int64()),
        "timestamp": pa.array([0] * number, pa.timestamp("us", "UTC")),
        "key": pa.array([b"b"] * number),
        "value": pa.array(RECORDS),
    }
    pq.write_table(pa.table(columns), found / "records.parquet")
    return found


@pytest.fixture(scope="module")
def streamed(session: SparkSession, folder: Path) -> list[Row]:
    records = session.readStream.schema(session.read.parquet(str(folder)).schema).parquet(str(folder))
    found: list[Row] = []

    def keep(batch: DataFrame, _: int) -> None:
        found.extend(batch.collect())

    query = arrivals(records, PLAN).writeStream.foreachBatch(keep).trigger(availableNow=True)
    query.option("checkpointLocation", str(folder.parent / "checkpoint")).start().awaitTermination()
    return found


def test_the_stream_counts_what_has_every_field_that_an_event_must_have(streamed: list[Row]) -> None:
    assert sorted(row[OFFSET] for row in streamed) == list(range(len(GOOD)))


def test_the_lane_takes_in_what_the_stream_counts(streamed: list[Row]) -> None:
    opened = {number: open_envelope(Order, raw) for number, raw in enumerate(RECORDS)}
    assert [number for number, one in opened.items() if one] == sorted(row[OFFSET] for row in streamed)
    for row in streamed:
        one = opened[row[OFFSET]]
        assert one is not None
        assert one.time_us == row[TIME]
        for name in PLAN.fields_of(Order):
            assert (type(one.fields[name]), one.fields[name]) == (type(row[f"order__{name}"]), row[f"order__{name}"])


@pytest.fixture(scope="module")
def lake(session: SparkSession, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made = Lake(tmp_path_factory.mktemp("lake"), USECASE)
    made.write(session.read.parquet(str(folder)), 0, NOBODY)
    return made


def test_the_lake_keeps_what_the_stream_counts(lake: Lake, session: SparkSession) -> None:
    kept = session.read.parquet(str(lake.path(Order))).select("kafka_offset").collect()
    assert sorted(row[0] for row in kept) == list(range(len(GOOD)))


def test_the_lake_knows_where_recent_events_begin(session: SparkSession, tmp_path: Path) -> None:
    lake = Lake(tmp_path, USECASE)
    assert lake.firsts_within(session, PLAN.events, DAY_US) == {}
    hours = [("01T09", 0), ("01T11", 0), ("01T10", 1), ("01T12", 0), ("01T01", 1)]
    records = session.createDataFrame(
        [
            (TOPIC, partition, offset, value(offset, {"event_time": f"2018-06-{hour}:00:00Z"}))
            for offset, (hour, partition) in enumerate(hours)
        ],
        "topic string, partition int, offset long, value binary",
    ).select("*", F.lit(None).cast("timestamp").alias("timestamp"), F.lit(b"").alias("key"))
    lake.write(records, 0, NOBODY)
    assert lake.firsts_within(session, PLAN.events, HOUR_US) == {(TOPIC, 0): 1}
    assert lake.firsts_within(session, PLAN.events, 2 * HOUR_US) == {(TOPIC, 0): 1, (TOPIC, 1): 2}
