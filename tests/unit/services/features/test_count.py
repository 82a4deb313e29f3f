"""Tables of changed tiles become states, whatever is run twice."""

from __future__ import annotations

import pyarrow as pa
import pytest
from prometheus_client import REGISTRY

from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.kernel import catalog
from flywheel.kernel.durations import DAY_US, HOUR_US, MINUTE_US
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ports import Unavailable, ViewKey
from flywheel.kernel.tiles import EntityState, fold, id_hash
from services.features.count import TileCounter

PLAN = compile_plan(catalog.load("fraud"))
CARD = PLAN.views[0]
START_US = 17_622 * DAY_US


def counter(store: MemoryFeatureStore, *, patience_s: float = 0.0) -> TileCounter:
    return TileCounter(PLAN, store, claim=lambda: None, backlog=lambda: 0, settled_us=lambda: 0, patience_s=patience_s)


def tile(key: str, start_us: int, ids: list[str], total: float | None, *, view: str = CARD.name) -> dict[str, object]:
    return {
        "view": view,
        "key": key,
        "start_us": start_us,
        "newest_us": start_us + 5,
        "id_hashes": [id_hash(event_id) for event_id in ids],
        "transaction_n": len(ids) if total is not None else 0,
        "transaction_amount_cents_sum": total,
        "transaction_amount_cents_min": total,
        "transaction_amount_cents_max": total,
        "chargeback_n": 0 if total is not None else len(ids),
    }


def values(store: MemoryFeatureStore, key: str, at_us: int) -> dict[str, float]:
    state = EntityState.unpack(CARD, store.states[ViewKey(CARD.name, key)])
    return dict(zip((feature.name for feature in CARD.features), fold(CARD, state, at_us, None), strict=True))


def test_tiles_of_many_entities_find_their_own_state() -> None:
    store = MemoryFeatureStore()
    rows = [
        tile("b", START_US + MINUTE_US, ["e3"], 30.0),
        tile("a", START_US, ["e1", "e2"], 10.0),
        tile("b", START_US, ["e4"], None),
        tile("t", START_US, ["e1"], 10.0, view="fraud_terminal_tiles"),
    ]
    counter(store).count(pa.Table.from_pylist(rows), 0)
    assert values(store, "a", START_US + HOUR_US)["card_transaction_count_1h"] == 2.0
    of_b = values(store, "b", START_US + HOUR_US)
    assert of_b["card_transaction_amount_cents_sum_24h"] == 30.0
    assert of_b["card_transaction_amount_cents_max_7d"] == 30.0
    assert of_b["card_chargeback_count_7d"] == 1.0
    recent = EntityState.unpack(CARD, store.states[ViewKey(CARD.name, "b")]).recent
    assert set(recent["id_hash"].tolist()) == {id_hash("e3"), id_hash("e4")}
    assert store.counters() == {
        "fraud_card_tiles.transaction": 3,
        "fraud_card_tiles.chargeback": 1,
        "fraud_terminal_tiles.transaction": 1,
    }


class Flaky(MemoryFeatureStore):
    """A store that goes away after some writes."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.writes = writes

    def write(self, *args: object) -> None:
        if not self.writes:
            raise Unavailable("gone")
        self.writes -= 1
        super().write(*args)  # type: ignore[arg-type]


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_batch_broken_off_at_any_point_counts_once_when_it_comes_again(
    writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.features.count._STATES_AT_ONCE", 2)
    store = Flaky(writes)
    table = pa.Table.from_pylist([tile(f"c{index}", START_US, [f"e{index}"], 10.0) for index in range(6)])
    with pytest.raises(Unavailable):
        counter(store).count(table, 0)
    store.writes = 99
    counter(store).count(table, 0)
    counter(store).count(table, 0)
    assert store.counters() == {"fraud_card_tiles.transaction": 6}
    assert values(store, "c5", START_US)["card_transaction_count_1m"] == 1.0


class Restarting(MemoryFeatureStore):
    """A store that fails once at each write, after having written."""

    failed = False

    def write(self, *args: object) -> None:
        super().write(*args)  # type: ignore[arg-type]
        self.failed = not self.failed
        if self.failed:
            raise Unavailable("restarts")


def test_a_store_that_restarts_is_waited_for_and_nothing_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.features.count._AGAIN_AFTER_S", 0.001)
    store = Restarting()
    counter(store, patience_s=10).count(pa.Table.from_pylist([tile("a", START_US, ["e1"], 10.0)]), 0)
    assert store.failed
    assert store.counters() == {"fraud_card_tiles.transaction": 1}


def test_a_corrupt_state_is_counted_and_does_not_stop_the_others() -> None:
    store = MemoryFeatureStore()
    store.states[ViewKey(CARD.name, "a")] = b"something else"
    labels = {"usecase": "fraud", "view": CARD.name}
    before = REGISTRY.get_sample_value("flywheel_features_foreign_states_total", labels) or 0.0
    rows = [tile("a", START_US, ["e1"], 10.0), tile("b", START_US, ["e2"], 20.0)]
    counter(store).count(pa.Table.from_pylist(rows), 0)
    assert REGISTRY.get_sample_value("flywheel_features_foreign_states_total", labels) == before + 1
    assert values(store, "a", START_US)["card_transaction_count_1h"] == 1.0
    assert values(store, "b", START_US)["card_transaction_count_1h"] == 1.0


def test_late_tiles_of_a_burst_keep_what_they_are_merged_with() -> None:
    store = MemoryFeatureStore()
    count = counter(store)
    count.count(
        pa.Table.from_pylist([tile("a", START_US, ["e1"], 10.0), tile("a", START_US + 9 * DAY_US, ["e2"], 1.0)]), 0
    )
    count.count(pa.Table.from_pylist([tile("a", START_US + MINUTE_US, ["e3"], 5.0)]), 1)
    found = values(store, "a", START_US + 9 * DAY_US)
    assert found["card_transaction_count_30d"] == 3.0
    assert found["card_transaction_amount_cents_mean_30d"] == 16.0 / 3
