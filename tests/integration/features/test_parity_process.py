"""Parity as it runs: decisions about a real store's features, one of them spoilt on the way to the log."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from flywheel.adapters.kafka_tail import newest_records
from flywheel.adapters.kafka_topics import publish
from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.contracts.decisions import DecisionLogged
from flywheel.contracts.parity import ParityReport
from flywheel.contracts.topics import decisions_topic, parity_topic
from tests.decision_rows import decided
from tests.features_stack import PLAN, Stack, await_counts, engines, lot, read, until
from usecases.fraud import usecase
from usecases.fraud.events import Transaction

pytestmark = pytest.mark.engine

MARGIN_S = 2.5
SPOILT = "terminal_transaction_count_7d"


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("FLYWHEEL_PARITY_EVERY_S", "0.5")
    monkeypatch.setenv("FLYWHEEL_PARITY_SETTLE_S", "0")
    with engines(tmp_path) as made:
        process = made.start()
        try:
            yield made
        finally:
            process.terminate()
            process.wait(60)


def reports(stack: Stack) -> list[ParityReport]:
    topic = parity_topic("fraud").name
    records = newest_records(stack.bootstrap, topic, per_partition=100, timeout_s=5)
    return [ParityReport.model_validate_json(record.value) for record in records]


def test_a_spoilt_value_is_reported_with_name_and_both_values(stack: Stack) -> None:
    stack.send(lot(random.Random(5), "p", 0, 1_000))
    until(stack.is_ready, "ready", stack)
    await_counts(stack)
    # What arrived this long ago was seen beyond doubt.
    quiet_s = max(stack.arrivals.values()) / 1e6 + MARGIN_S
    until(lambda: time.time() > quiet_s, "certain", stack)
    newest = max((event for event in stack.distinct() if isinstance(event, Transaction)), key=lambda e: e.event_time)
    right = as_served(stack, newest)
    topic = decisions_topic("fraud").name

    # The job begins at the end of the log: until it does, decisions pass it by.
    def sampled() -> bool:
        publish(stack.bootstrap, topic, b"k", as_served(stack, newest).to_bytes())
        return bool(reports(stack))

    until(sampled, "a first report", stack)
    first = reports(stack)[-1]
    assert first.mismatched == ()
    assert first.values == first.decisions * len(usecase.windowed)
    place = right.feature_names.index(SPOILT)
    values = [value + 1 if number == place else value for number, value in enumerate(right.features)]
    spoilt = as_served(stack, newest).model_copy(update={"features": tuple(values)})
    publish(stack.bootstrap, topic, b"k", spoilt.to_bytes())
    until(lambda: bool(reports(stack)[-1].mismatched), "the spoilt value reported", stack)
    (wrong,) = reports(stack)[-1].mismatched
    assert (wrong.feature, wrong.mismatches, wrong.example.event_id) == (SPOILT, 1, newest.event_id)
    assert (wrong.example.online, wrong.example.offline) == (values[place], values[place] - 1)
    assert stack.metric("flywheel_parity_mismatches_total", usecase="fraud", feature=SPOILT) == 1
    assert stack.metric("flywheel_parity_values_total", usecase="fraud", outcome="equal") > 0


def as_served(stack: Stack, event: Transaction) -> DecisionLogged:
    """The decision about the event on what the store says now."""
    writer = RedisFeatureWriter(stack.redis_url, PLAN)
    try:
        values = {
            feature.name: value
            for view in PLAN.views
            for feature, value in zip(
                view.features, read(writer, view, view.entity.id_in(event), event.event_time_us, event), strict=True
            )
        }
    finally:
        writer.close()
    row = [float(np.float32(values.get(name, 0.0))) for name in usecase.feature_names]
    return decided(event.event_id, event.event_time, row, decided_at=datetime.now(UTC))
