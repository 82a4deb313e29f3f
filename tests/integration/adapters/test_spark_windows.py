"""Spark's batches on every kind of feature: history and states equal a loop over the events."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from flywheel.adapters.spark_contributions import KEY
from flywheel.adapters.spark_events import event_schema
from flywheel.adapters.spark_history import build_history
from flywheel.adapters.spark_states import COUNTED, STATE, build_states
from flywheel.contracts.events import Event, from_us, to_us
from flywheel.kernel.durations import DAY_US, HOUR_US
from flywheel.kernel.features import join_id, split_id
from flywheel.kernel.fold import Reading
from flywheel.kernel.plan import TileView, compile_plan
from flywheel.kernel.rows import no_rows
from flywheel.kernel.state import EntityState, mark_of
from tests.wide_declaration import USECASE, Order, Refund
from tests.window_oracle import Happened, window_value

pytestmark = pytest.mark.engine

PLAN = compile_plan(USECASE)
# The last two are one as doubles.
STALLS = (7, 1 << 53, (1 << 53) + 1)
START_US = to_us(datetime(2018, 6, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def story() -> list[Happened]:
    """Orders and refunds of few people over forty days, in the order of their arrival, many late, some backfilled."""
    rng = random.Random(4)
    found = []
    for number in range(400):
        at_us = START_US + number * DAY_US // 10 - rng.choice([0, 0, 1, 60_000_000, 3 * HOUR_US, 2 * DAY_US])
        buyer = f"b{rng.randrange(4)}"
        fields: dict[str, Any] = {"buyer": buyer, "cents": rng.choice([0, 1, 49, 50, 7_000])}
        fields |= {"stall": rng.choice(STALLS)}
        name = "refund" if rng.random() < 0.2 else "order"
        if name == "order":
            fields |= {
                "seller": f"b{rng.randrange(4)}",
                "shop": rng.choice("abc"),
                "weight": rng.choice([None, 0.25, 0.5, 8.0]),
                "parcel": rng.choice([None, 5, 1 << 53, (1 << 53) + 1]),
            }
        loaded = rng.random() < 0.3
        found.append(Happened(name, str(number), at_us - at_us % 1000, fields, START_US + number, backfilled=loaded))
    return found


def frames(session: SparkSession, story: list[Happened]) -> dict[str, DataFrame]:
    """As `read_archive` gives them; offsets in the order of arrival."""
    kinds: dict[str, type[Event]] = {"order": Order, "refund": Refund}
    found = {}
    for name, event in kinds.items():
        schema = event_schema(event).add("ingest_time", "timestamp").add("kafka_partition", "integer")
        schema = schema.add("backfilled", "boolean")
        rows = [
            {
                **happened.fields,
                "event_id": happened.event_id,
                "event_time": from_us(happened.time_us),
                "ingest_time": from_us(happened.arrived_us),
                "kafka_partition": number % 2,
                "kafka_offset": number,
                "backfilled": happened.backfilled,
            }
            for number, happened in enumerate(story)
            if happened.name == name
        ]
        found[name] = session.createDataFrame(rows, schema.add("kafka_offset", "long"))
    return found


def wanted(view: TileView, entity_id: str, story: list[Happened], at_us: int, own: Happened | None = None) -> Any:
    known_us = None if own is None else own.knows_until_us
    parts = split_id(entity_id)
    return [
        pytest.approx(window_value(f, parts, story, at_us, own=own, known_us=known_us), rel=1e-9, abs=1e-9)
        for f in view.features
    ]


def test_history_equals_the_oracle(session: SparkSession, story: list[Happened]) -> None:
    orders = {happened.event_id: happened for happened in story if happened.name == "order"}
    for view in PLAN.views:
        rows = build_history(PLAN, view, frames(session, story)).collect()
        assert sorted(row["event_id"] for row in rows) == sorted(orders)
        for row in rows:
            own = orders[row["event_id"]]
            entity_id = join_id([str(row[key]) for key in view.entity.keys])
            assert entity_id == join_id([str(own.fields[name]) for name in view.entity.request_keys])
            assert [row[f.name] for f in view.features] == wanted(view, entity_id, story, own.time_us, own)


def test_states_equal_the_oracle_up_to_their_position(session: SparkSession, story: list[Happened]) -> None:
    limit = 300
    partitions = [PLAN.partition(event.event_name, number) for event in PLAN.events for number in (0, 1)]
    reached = {partition: mark_of(partition, limit) for partition in partitions}
    for view in PLAN.views:
        rows = build_states(PLAN, view, frames(session, story), reached).collect()
        counted: Counter[str] = Counter()
        for row in rows:
            counted.update(row[COUNTED])
            state = EntityState.unpack(view, bytes(row[STATE]))
            at_us = state.newest_us + 1_234
            values = Reading(view).values(state, no_rows(view), at_us).tolist()
            assert values == wanted(view, row[KEY], story[:limit], at_us), row[KEY]
        assert counted == comings(view, story[:limit])
        assert counted


def comings(view: TileView, story: list[Happened]) -> Counter[str]:
    """How often an event comes to an entity, by `<view>.<event>`."""
    found: Counter[str] = Counter()
    for happened in story:
        intakes = [intake for intake in view.intakes if intake.event.event_name == happened.name]
        found[f"{view.name}.{happened.name}"] += len({str([happened.fields[n] for n in i.key_fields]) for i in intakes})
    return +found
