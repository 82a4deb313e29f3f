"""Decisions on a real broker come to lie in the lake as they were logged, each batch once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
from confluent_kafka import Producer
from pyspark.sql import DataFrame, SparkSession

from flywheel.adapters.kafka_topics import create_topics
from flywheel.adapters.spark_decisions import DECISION_SCHEMA, DecisionLake, read_decisions
from flywheel.contracts.decisions import DecisionLogged, Fallback
from flywheel.contracts.topics import decisions_topic
from flywheel.kernel.erasure import EraseKey, Erasures
from services.trainer.served import served_rows
from tests.decision_rows import asked, decided
from tests.ranking_rows import ranking
from usecases.fraud import usecase

pytestmark = pytest.mark.engine

FIRST = datetime(2018, 4, 1, 23, 59, 59, 999_999, tzinfo=UTC)
SECOND = datetime(2018, 4, 2, tzinfo=UTC)
NOBODY = Erasures(EraseKey(b"key", "fraud"))
ROW = [float(number) for number in range(len(usecase.feature_names))]


def send(bootstrap: str, *values: bytes, named: str = "fraud") -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    for value in values:
        producer.produce(decisions_topic(named).name, value, b"card-1")
    assert producer.flush(10) == 0


def archive(
    session: SparkSession, bootstrap: str, lake: DecisionLake, checkpoint: Path, named: str = "fraud"
) -> list[int]:
    """Archives all there is, each batch as if its first writing had not been noted, and returns their numbers."""
    batches: list[int] = []

    def written(batch: DataFrame, batch_id: int) -> None:
        for _ in range(2):
            lake.write(batch, batch_id, NOBODY)
        batches.append(batch_id)

    query = read_decisions(session, bootstrap, named).writeStream.foreachBatch(written)
    query.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True).start().awaitTermination()
    return batches


def test_decisions_are_archived_as_they_were_logged(session: SparkSession, kafka: str, tmp_path: Path) -> None:
    create_topics(kafka, [decisions_topic("fraud")])
    odd = decided("b", SECOND, [float("nan"), float("inf"), *ROW[2:]], reasons=())
    logged = [decided("a", FIRST, ROW), odd, decided("c", SECOND, ())]
    send(kafka, *(decision.to_bytes() for decision in logged[:2]), b"no decision", b'{"decision_id": "x"}')
    lake = DecisionLake(tmp_path / "lake", "fraud", "card")
    assert archive(session, kafka, lake, tmp_path / "checkpoint") == [0]
    send(kafka, logged[2].to_bytes())
    assert archive(session, kafka, lake, tmp_path / "checkpoint") == [1]
    assert lake.count() == DecisionLake(tmp_path / "lake", "fraud", "card").count() == 3
    dates = {path.name for path in lake.path.glob("decision_date=*")}
    assert dates == {"decision_date=2018-04-01", "decision_date=2018-04-02"}
    rows = ds.dataset(lake.path, partitioning="hive").to_table().sort_by("event_id").to_pylist(maps_as_pydicts="strict")
    for row, decision in zip(rows, logged, strict=True):
        features = row.pop("features")
        np.testing.assert_array_equal(features, decision.features)
        wanted = decision.model_dump()
        assert {name: row[name] for name in DecisionLogged.model_fields if name != "features"} == {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in wanted.items()
            if name != "features"
        }
    served = served_rows(tmp_path / "lake", usecase, asked("c", "a", at=SECOND), lambda _: True)
    assert served.places.tolist() == [1]


def test_of_a_ranking_each_candidate_shown_is_archived_as_a_decision(
    session: SparkSession, kafka: str, tmp_path: Path
) -> None:
    create_topics(kafka, [decisions_topic("shop")])
    plain = ranking(FIRST, SECOND)
    failed = ranking(FIRST, SECOND, decision_id="d2", fallback=Fallback.MODEL_UNAVAILABLE, shown=("x",))
    send(kafka, plain.to_bytes(), failed.to_bytes(), b"no ranking", b'{"decision_id": "x"}', named="shop")
    lake = DecisionLake(tmp_path / "lake", "shop", "user", ranks=True)
    archive(session, kafka, lake, tmp_path / "checkpoint", named="shop")
    assert lake.count() == 3
    rows = (
        ds.dataset(lake.path, partitioning="hive").to_table().sort_by("decision_id").to_pylist(maps_as_pydicts="strict")
    )
    for row, decision in zip(rows, [*plain.decisions(), *failed.decisions()], strict=True):
        np.testing.assert_array_equal(row.pop("features"), decision.features)
        wanted = decision.model_dump(exclude={"features"})
        assert {name: row[name] for name in wanted} == {
            name: list(value) if isinstance(value, tuple) else value for name, value in wanted.items()
        }


def test_every_field_of_a_decision_has_a_column() -> None:
    assert DECISION_SCHEMA.fieldNames() == list(DecisionLogged.model_fields)
