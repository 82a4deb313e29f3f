"""Tables of arrived events become states, whatever is run twice."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pytest
from prometheus_client import REGISTRY

from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.adapters.spark_arrivals import EVENT, OFFSET, PARTITION, TIE, TIME
from flywheel.kernel import catalog
from flywheel.kernel.durations import DAY_US, HOUR_US, MINUTE_US
from flywheel.kernel.fold import Reading
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ports import StateWrite, Unavailable, ViewKey
from flywheel.kernel.rows import event_hash, no_rows
from flywheel.kernel.state import EntityState, mark_of
from services.features.count import TileCounter

PLAN = compile_plan(catalog.load("fraud"))
CARD = PLAN.views[0]
START_US = 17_622 * DAY_US


def counter(store: MemoryFeatureStore, *, patience_s: float = 0.0) -> TileCounter:
    return TileCounter(PLAN, store, claim=lambda: None, backlog=lambda: 0, patience_s=patience_s)


class Topic:
    """Numbers events as a broker does."""

    def __init__(self) -> None:
        self._offset = 0

    def event(
        self, card: str, event_id: str, time_us: int, amount: int = 10, *, name: str = "transaction"
    ) -> dict[str, object]:
        self._offset += 1
        row: dict[str, object] = dict.fromkeys(COLUMNS)
        row |= {EVENT: name, TIME: time_us, TIE: event_hash(name, event_id), PARTITION: 1, OFFSET: self._offset}
        fields = {"card_id": card, "terminal_id": "t", "amount_cents": amount}
        return row | {f"{name}__{field}": value for field, value in fields.items() if f"{name}__{field}" in COLUMNS}


COLUMNS = {
    EVENT: pa.string(),
    TIME: pa.int64(),
    TIE: pa.int64(),
    PARTITION: pa.int32(),
    OFFSET: pa.int64(),
    "transaction__card_id": pa.string(),
    "transaction__terminal_id": pa.string(),
    "transaction__amount_cents": pa.int64(),
    "chargeback__card_id": pa.string(),
    "chargeback__terminal_id": pa.string(),
}


def table(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), pa.schema(list(COLUMNS.items())))


def values(store: MemoryFeatureStore, key: str, at_us: int) -> dict[str, float]:
    state = EntityState.unpack(CARD, store.states[ViewKey(CARD.name, key)])
    found = Reading(CARD).values(state, no_rows(CARD), at_us).tolist()
    return dict(zip((feature.name for feature in CARD.features), found, strict=True))


def test_events_of_many_entities_find_their_own_state() -> None:
    store, topic = MemoryFeatureStore(PLAN), Topic()
    arrived = table(
        topic.event("b", "e3", START_US + MINUTE_US, 30),
        topic.event("a", "e1", START_US),
        topic.event("b", "e4", START_US, name="chargeback"),
        topic.event("a", "e2", START_US + 5),
    )
    counter(store).count(arrived)
    assert values(store, "a", START_US + HOUR_US)["card_transaction_count_1h"] == 2.0
    of_b = values(store, "b", START_US + HOUR_US)
    assert of_b["card_transaction_amount_cents_sum_24h"] == 30.0
    assert of_b["card_transaction_amount_cents_max_7d"] == 30.0
    assert of_b["card_chargeback_count_7d"] == 1.0
    state = EntityState.unpack(CARD, store.states[ViewKey(CARD.name, "b")])
    assert set(state.recent.tolist()) == {event_hash("transaction", "e3"), event_hash("chargeback", "e4")}
    partition = PLAN.partition("chargeback", 1)
    assert state.positions[partition] == mark_of(partition, 4)
    assert store.counters() == {
        "fraud_card_tiles.transaction": 3,
        "fraud_card_tiles.chargeback": 1,
        "fraud_terminal_tiles.transaction": 3,
        "fraud_terminal_tiles.chargeback": 1,
    }


class Flaky(MemoryFeatureStore):
    """A store that goes away after some writes."""

    def __init__(self, writes: int) -> None:
        super().__init__(PLAN)
        self.writes = writes

    def write(self, *args: object) -> list[ViewKey]:
        if not self.writes:
            raise Unavailable("gone")
        self.writes -= 1
        return super().write(*args)  # type: ignore[arg-type]


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_batch_broken_off_at_any_point_counts_once_when_it_comes_again(
    writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.features.count._STATES_AT_ONCE", 2)
    store, topic = Flaky(writes), Topic()
    arrived = table(*(topic.event(f"c{index}", f"e{index}", START_US) for index in range(6)))
    with pytest.raises(Unavailable):
        counter(store).count(arrived)
    store.writes = 99
    counter(store).count(arrived)
    counter(store).count(arrived)
    assert store.counters()["fraud_card_tiles.transaction"] == 6
    assert values(store, "c5", START_US)["card_transaction_count_1m"] == 1.0


class Restarting(MemoryFeatureStore):
    """A store that fails once at each write, after having written."""

    failed = False

    def write(self, *args: object) -> list[ViewKey]:
        found = super().write(*args)  # type: ignore[arg-type]
        self.failed = not self.failed
        if self.failed:
            raise Unavailable("restarts")
        return found


def test_a_store_that_restarts_is_waited_for_and_nothing_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.features.patience._AGAIN_AFTER_S", 0.001)
    store = Restarting(PLAN)
    counter(store, patience_s=10).count(table(Topic().event("a", "e1", START_US)))
    assert store.counters() == {"fraud_card_tiles.transaction": 1, "fraud_terminal_tiles.transaction": 1}


def test_a_corrupt_state_is_counted_and_does_not_stop_the_others() -> None:
    store, topic = MemoryFeatureStore(PLAN), Topic()
    store.states[ViewKey(CARD.name, "a")] = b"something else"
    labels = {"usecase": "fraud", "view": CARD.name}
    before = REGISTRY.get_sample_value("flywheel_features_foreign_states_total", labels) or 0.0
    arrived = table(topic.event("a", "e1", START_US), topic.event("b", "e2", START_US, 20))
    counter(store).count(arrived)
    assert REGISTRY.get_sample_value("flywheel_features_foreign_states_total", labels) == before + 1
    assert values(store, "a", START_US)["card_transaction_count_1h"] == 1.0
    assert values(store, "b", START_US)["card_transaction_count_1h"] == 1.0
    lost = {key: EntityState.unpack(CARD, store.states[ViewKey(CARD.name, key)]).lost for key in "ab"}
    assert lost == {"a": True, "b": False}


def test_events_that_the_edge_took_into_the_state_meanwhile_are_not_counted_again() -> None:
    class Overtaken(MemoryFeatureStore):
        """Another writer is faster, once."""

        overtaken = False

        def write(self, states: Mapping[ViewKey, StateWrite]) -> list[ViewKey]:
            if not self.overtaken:
                self.overtaken = True
                other = MemoryFeatureStore(PLAN)
                counter(other).count(arrived.slice(0, 1))
                key = ViewKey(CARD.name, "a")
                self.states[key] = other.states[key]
            return super().write(states)

    topic = Topic()
    arrived = table(topic.event("a", "e1", START_US), topic.event("a", "e2", START_US))
    store = Overtaken(PLAN)
    counter(store).count(arrived)
    assert values(store, "a", START_US)["card_transaction_count_1h"] == 2.0
    assert store.counters()["fraud_card_tiles.transaction"] == 1


def test_late_events_of_a_burst_find_their_tiles() -> None:
    store, topic = MemoryFeatureStore(PLAN), Topic()
    count = counter(store)
    count.count(table(topic.event("a", "e1", START_US), topic.event("a", "e2", START_US + 9 * DAY_US, 1)))
    count.count(table(topic.event("a", "e3", START_US + MINUTE_US, 5)))
    found = values(store, "a", START_US + 9 * DAY_US)
    assert found["card_transaction_count_30d"] == 3.0
    assert found["card_transaction_amount_cents_mean_30d"] == 16.0 / 3


def test_a_state_replaced_without_being_read_is_refused() -> None:
    store = MemoryFeatureStore(PLAN)
    counter(store).count(table(Topic().event("a", "e1", START_US)))
    key = ViewKey(CARD.name, "a")
    assert store.write({key: StateWrite(b"blind", 1)}) == [key]


def test_states_are_written_in_steps_that_the_store_can_take_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Watched(MemoryFeatureStore):
        """Remembers how many bytes of states each step had; one step finds its state changed."""

        def __init__(self) -> None:
            super().__init__(PLAN)
            self.sizes: list[list[int]] = []

        def write(self, states: Mapping[ViewKey, StateWrite]) -> list[ViewKey]:
            self.sizes.append([len(state.state) for state in states.values()])
            changed = list(states)[:1] if len(self.sizes) == 2 else []
            return changed + super().write({key: state for key, state in states.items() if key not in changed})

    limit = 5_000
    monkeypatch.setattr("services.features.count._BYTES_AT_ONCE", limit)
    store, topic = Watched(), Topic()
    small = [topic.event(f"c{index}", f"e{index}", START_US) for index in range(20)]
    big = [topic.event("big", f"b{index}", START_US + index) for index in range(200)]
    counter(store).count(table(*small, *big))
    assert all(len(sizes) == 1 or sum(sizes) <= limit for sizes in store.sizes)
    assert max(len(sizes) for sizes in store.sizes) > 1
    assert max(max(sizes) for sizes in store.sizes) > limit
    assert store.counters()["fraud_card_tiles.transaction"] == 220
    assert values(store, "big", START_US + HOUR_US)["card_transaction_count_1h"] == 200.0
    assert {key.entity_id for key in store.states} == {"t", "big", *(f"c{index}" for index in range(20))}
