"""The edge lane on a store in memory: events are visible at once, exactly, whatever the tiles do meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.adapters.memory_erasures import MemoryErasures
from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.contracts.erasure import Erased
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.hydration import opened
from flywheel.kernel.ports import Record, StateWrite, ViewKey
from flywheel.kernel.rows import MARK, event_hash, rows_of
from flywheel.kernel.state import Change, apply, mark_of, partition_of
from services.features.edge import lane as lane_module
from services.features.edge.lane import EdgeLane
from tests.edge_scene import CARD, FIELDS, KEY, NOBODY, PLAN, START_US, TOPIC, count, record, stream
from usecases.fraud.events import Transaction


def test_an_event_is_visible_as_soon_as_it_is_taken() -> None:
    store = MemoryFeatureStore(PLAN)
    edge = EdgeLane(PLAN, store, NOBODY)
    edge.take([record(0, "e0"), record(1, "e1"), record(2, "other", card="c2")])
    assert count(store) == 2
    edge.take([record(1, "e1"), record(3, "e3")])
    assert count(store) == 3


def test_an_event_counts_once_while_the_tiles_take_it_over() -> None:
    store = MemoryFeatureStore(PLAN)
    edge = EdgeLane(PLAN, store, NOBODY)
    edge.take([record(0, "e0"), record(1, "e1")])
    stream(store, 1)
    assert count(store) == 2
    stream(store, 2)
    assert count(store) == 2
    store.absorb({0: mark_of(0, 2)}, None)
    edge.tidy(store.absorbed())
    assert store.read([KEY])[0].edge is None
    assert count(store) == 2


def test_a_record_that_is_no_event_does_not_stop_the_rest() -> None:
    store = MemoryFeatureStore(PLAN)
    bad = [Record(TOPIC, 0, n, None, raw) for n, raw in enumerate([b"", b"{", b'{"event":{}}', b'{"event":3}', b"[]"])]
    EdgeLane(PLAN, store, NOBODY).take([*bad, record(9, "e9")])
    assert count(store) == 1


def test_who_was_erased_comes_back_by_no_record_of_before() -> None:
    store, key = MemoryFeatureStore(PLAN), EraseKey(b"key", "fraud")
    erasures = MemoryErasures(key)
    edge = EdgeLane(PLAN, store, erasures)
    before = [record(0, "e0"), record(1, "e1"), record(2, "other", card="c2")]
    bad = [
        Record(TOPIC, 0, 3 + n, None, raw) for n, raw in enumerate([b'{"event":3,"ingest_time":"2026-01-01"}', b"[]"])
    ]
    erased = Erased(
        usecase="fraud",
        entity="card",
        pseudonym=key.pseudonym("card", "c1"),
        key_check=key.check,
        erased_at=datetime.now(UTC),
        erased_by="somebody",
    )
    edge.tidy(store.absorbed())
    erasures.publish(erased)
    edge.tidy(store.absorbed())
    edge.take([*before, *bad])
    assert count(store) == 0
    assert store.read([ViewKey(CARD.name, "c2")])[0].edge
    edge.take([record(5, "e5")])
    assert count(store) == 1
    afresh = MemoryFeatureStore(PLAN)
    EdgeLane(PLAN, afresh, erasures).take(before)
    assert count(afresh) == 0


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_an_edge_that_grows_too_long_goes_into_the_state_and_nothing_is_lost_or_counted_twice(
    data: st.DataObject,
) -> None:
    store = MemoryFeatureStore(PLAN)
    edge = EdgeLane(PLAN, store, NOBODY)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lane_module, "EDGE_LIMIT", 4)
        offset = absorbed = 0
        for _ in range(data.draw(st.integers(1, 12))):
            number = data.draw(st.integers(1, 5))
            edge.take([record(n, f"e{n}", at_us=START_US + n) for n in range(offset, offset + number)])
            offset += number
            assert count(store) == offset
            if data.draw(st.booleans()):
                absorbed = data.draw(st.integers(absorbed, offset))
                stream_all(store, absorbed)
                assert count(store) == offset
                store.absorb({0: mark_of(0, absorbed)}, None)
                edge.tidy(store.absorbed())
                assert count(store) == offset
    stream_all(store, offset)
    assert store.counters()[f"{CARD.name}.transaction"] == offset


def test_an_edge_is_not_taken_into_a_state_that_was_set_back_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryFeatureStore(PLAN)
    edge = EdgeLane(PLAN, store, NOBODY)
    edge.take([record(n, f"e{n}", at_us=START_US + n) for n in range(3)])
    stream_all(store, 3)
    store.absorb({0: mark_of(0, 3)}, None)
    edge.tidy(store.absorbed())
    store.hand_over("rebuild")
    store.states.clear()
    monkeypatch.setattr(lane_module, "EDGE_LIMIT", 4)
    edge.take([record(n, f"e{n}", at_us=START_US + n) for n in range(3, 9)])
    store.absorb({0: mark_of(0, 0)}, None)
    stream_all(store, 9)
    assert count(store) == 9


def stream_all(store: MemoryFeatureStore, until_offset: int) -> None:
    """The stream reads the log from its beginning: what the edge took into the state is among its events."""
    (stored,) = store.read([KEY])
    state, _ = opened(CARD, stored)
    numbers = range(until_offset)
    columns = {name: np.array([value] * until_offset, object) for name, value in FIELDS.items()}
    columns["amount_cents"] = np.array([100 + n for n in numbers], object)
    ties = np.array([event_hash("transaction", f"e{n}") for n in numbers], np.int64)
    times, marks = np.arange(until_offset) + START_US, np.array([mark_of(0, n) for n in numbers], np.int64)
    _, rows = rows_of(CARD, Transaction, columns, times, ties, marks)
    (after,), (fresh,) = apply(CARD, [state], [Change(rows, {0: mark_of(0, until_offset)})])
    counted = PLAN.counted(CARD, partition_of(fresh[:, MARK]))
    store.write({KEY: StateWrite(after.pack(CARD), after.newest_us, StateWrite.ending_of(stored.state), counted)})
