"""What every feature store does with states, counters and attributes."""

from __future__ import annotations

import pytest
import redis

from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.kernel.attributes import AttributeRow, Loaded
from flywheel.kernel.ports import (
    Answer,
    Question,
    StateWrite,
    Stored,
    ViewKey,
    total_of,
)
from flywheel.kernel.state import mark_of
from tests.attribute_scene import PROFILE, SEGMENTS, TRUST, USECASE, profile
from tests.feature_stores import CARD, NOTHING, PLAN, TERMINAL, VIEW, Store, asked, read, rows
from tests.serving_parts import AT_US, payment
from usecases.fraud.events import Transaction


def test_an_empty_store_holds_nothing(store: Store) -> None:
    assert read(store, CARD, TERMINAL) == ([NOTHING, NOTHING], None)
    assert store.writer.read([CARD]) == [NOTHING]
    assert store.writer.counters() == {}
    assert store.writer.absorbed() == {}
    assert store.writer.source() is None


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 20_000])
def test_a_written_state_comes_back_on_both_sides(store: Store, size: int) -> None:
    state = bytes(number % 256 for number in range(size))
    assert store.writer.write({CARD: StateWrite(state, 1_522_540_800_000_001)}) == []
    assert store.writer.read([TERMINAL, CARD]) == [NOTHING, Stored(state)]
    assert read(store, CARD, TERMINAL)[0] == [Stored(state), NOTHING]


def test_a_newer_state_replaces_the_older(store: Store) -> None:
    store.writer.write({CARD: StateWrite(b"old", 1)})
    store.writer.write({CARD: StateWrite(b"new", 2, replaces=b"old"), TERMINAL: StateWrite(b"other", 2)})
    assert read(store, TERMINAL, CARD, CARD)[0] == [Stored(b"other"), Stored(b"new"), Stored(b"new")]


def test_a_state_that_is_another_by_now_is_neither_replaced_nor_counted(store: Store) -> None:
    store.writer.write({CARD: StateWrite(b"first version", 1)})
    late = {
        TERMINAL: StateWrite(b"other", 1, counted={"a": 1}),
        CARD: StateWrite(b"second", 2, replaces=b"some other", counted={"a": 10, "b": 10}),
        ViewKey(VIEW.name, "c2"): StateWrite(b"third", 1, counted={"a": 100}),
    }
    assert store.writer.write(late) == [CARD]
    assert store.writer.read([CARD, TERMINAL]) == [Stored(b"first version"), Stored(b"other")]
    assert store.writer.counters() == {"a": 101}
    assert store.writer.write({CARD: StateWrite(b"second", 2)}) == [CARD]
    assert store.writer.write(late) == list(late)
    assert store.writer.counters() == {"a": 101}


def test_states_of_many_entities_are_written_and_counted_once_each(store: Store) -> None:
    keys = [ViewKey(view.name, f"e{n}") for n in range(150) for view in PLAN.views]
    states = {key: StateWrite(f"state of {key}".encode(), 1, counted={key.view: 1, "all": 2}) for key in keys}
    assert store.writer.write({key: states[key] for key in keys[::3]}) == []
    assert sorted(map(repr, store.writer.write(states))) == sorted(map(repr, keys[::3]))
    assert store.writer.read(keys) == [Stored(states[key].state) for key in keys]
    assert store.writer.counters() == {"all": 2 * len(keys)} | {view.name: 150 for view in PLAN.views}
    assert store.writer.write({}) == []


def test_counters_add_up(store: Store) -> None:
    store.writer.write({CARD: StateWrite(b"", 1, counted={"fraud_card_tiles.transaction": 2})})
    counted = {"fraud_card_tiles.transaction": 3, "fraud_card_tiles.chargeback": 1}
    store.writer.write({ViewKey(VIEW.name, "c2"): StateWrite(b"", 1, counted=counted)})
    total = {"fraud_card_tiles.transaction": 5, "fraud_card_tiles.chargeback": 1}
    assert store.writer.counters() == total
    assert total_of(store.writer.counters_by_place()) == total


@pytest.mark.parametrize("newest_us", [0, 999_999, 1_522_540_800_000_001, 2**50])
def test_a_state_goes_once_nothing_of_it_is_read_any_more(store: Store, newest_us: int) -> None:
    store.writer.write({CARD: StateWrite(b"state", newest_us), TERMINAL: StateWrite(b"other", 2**51)})
    last_read_us = newest_us + VIEW.lifetime_us
    assert store.writer.forget([CARD, TERMINAL, ViewKey(VIEW.name, "unknown")], last_read_us) == 0
    assert store.writer.read([CARD]) == [Stored(b"state")]
    assert store.writer.forget([CARD, TERMINAL], last_read_us + 1_000_000) == 1
    assert store.writer.read([CARD, TERMINAL]) == [NOTHING, Stored(b"other")]
    assert store.writer.write({CARD: StateWrite(b"again", newest_us)}) == []
    assert store.writer.forget([CARD], last_read_us + 1_000_000) == 1


def test_an_entity_with_an_edge_is_not_forgotten(store: Store) -> None:
    store.writer.write({CARD: StateWrite(b"state", 1)})
    store.writer.append({CARD: rows((1, 0, 1))}, {})
    assert store.writer.forget([CARD], 2**52) == 0
    store.writer.trim([CARD], {0: mark_of(0, 2)})
    assert store.writer.forget([CARD], 2**52) == 1


@pytest.mark.engine
def test_nothing_goes_by_the_clock_of_the_wall_and_what_others_keep_of_an_entity_stays(redis_server: str) -> None:
    writer = RedisFeatureWriter(redis_server, PLAN)
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
        writer.append({CARD: rows((1, 0, 1))}, {})
        writer.write({CARD: StateWrite(b"state", 1, counted={"counter": 1})})
        assert {client.pttl(key) for key in client.keys("*")} == {-1}
        (key,) = client.keys("*c1*")
        client.hset(key, "of another view", "kept")
        writer.trim([CARD], {0: mark_of(0, 2)})
        assert writer.forget([CARD], 2**52) == 1
        assert client.hgetall(key) == {b"of another view": b"kept"}
        client.hset(key, f"_ts:{VIEW.name}", b"no time")
        assert writer.forget([CARD], 2**52) == 0
    writer.close()


def test_counters_can_be_set(store: Store) -> None:
    store.writer.write({CARD: StateWrite(b"1", 1, counted={"a": 2}), TERMINAL: StateWrite(b"2", 1, counted={"b": 1})})
    store.writer.recount({"a": 5})
    assert store.writer.counters() == {"a": 5}
    store.writer.recount({})
    assert store.writer.counters() == {}


def loaded_of(answer: Answer) -> dict[str, Loaded]:
    """By table."""
    pairs = zip(USECASE.attribute_reads, answer.attributes, strict=True)
    return {loaded.table.name: loaded for read, found in pairs for loaded in read.loaded(found)}


def test_attributes_are_read_beside_the_states(attribute_store: Store) -> None:
    terminal = ViewKey("fraud_terminal_tiles", "t1")
    attribute_store.writer.write({terminal: StateWrite(b"state", 5)})
    attribute_store.writer.put(PROFILE, [profile("t1", AT_US - 1_000, 5.0, None), profile("t2", AT_US, 6.0, 7.0)])
    attribute_store.writer.put(PROFILE, [profile("t1", AT_US, 8.0, None)])
    attribute_store.writer.put(TRUST, [AttributeRow(("t1", "c1"), AT_US, (0.5,))])
    event = Transaction.model_validate_json(payment())
    requests = [read.request(event) for read in USECASE.attribute_reads]
    answer = asked(attribute_store, Question([terminal], requests))
    assert answer.stored == [Stored(b"state")]
    tables = loaded_of(answer)
    assert {name: (one.status, one.values, one.age_ms) for name, one in tables.items() if name != SEGMENTS.name} == {
        "terminal_profile": ("fresh", {"terminal_floor_limit_cents": 8.0, "terminal_opened_days": -1.0}, 0.0),
        "trust": ("fresh", {"pair_share": 0.5}, 0.0),
    }
    assert (tables[SEGMENTS.name].status, tables[SEGMENTS.name].values) == ("missing", {"card_rank": -2.0})


def test_attributes_stay_when_the_state_beside_them_is_forgotten(attribute_store: Store) -> None:
    writer, terminal = attribute_store.writer, ViewKey("fraud_terminal_tiles", "t1")
    writer.write({terminal: StateWrite(b"state", 5)})
    writer.put(PROFILE, [profile("t1", AT_US)])
    assert writer.forget([terminal], AT_US) == 1
    event = Transaction.model_validate_json(payment())
    requests = [read.request(event) for read in USECASE.attribute_reads]
    answer = asked(attribute_store, Question([terminal], requests))
    assert answer.stored == [NOTHING]
    assert loaded_of(answer)["terminal_profile"].values == {
        "terminal_floor_limit_cents": 5_000.0,
        "terminal_opened_days": 400.0,
    }
