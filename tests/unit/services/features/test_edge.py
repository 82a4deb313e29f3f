"""The edge lane on a store in memory: events are visible at once, exactly, whatever the tiles do meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.adapters.memory_erasures import MemoryErasures
from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.contracts.erasure import Erased
from flywheel.contracts.events import Envelope, from_us, to_us
from flywheel.contracts.topics import event_topic
from flywheel.kernel import catalog
from flywheel.kernel.durations import HOUR_US
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.fold import Reading
from flywheel.kernel.hydration import opened
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ports import Lane, Record, StateWrite, StoreProgress, Unavailable, ViewKey
from flywheel.kernel.rows import MARK, TIE, event_hash, rows_of
from flywheel.kernel.state import Change, EntityState, apply, mark_of, partition_of
from services.features.edge import lane as lane_module
from services.features.edge.lane import EdgeLane
from services.features.edge.pursuit import NEAR_EVENTS, Pursuit
from usecases.fraud.events import Transaction

PLAN = compile_plan(catalog.load("fraud"))
CARD = PLAN.views[0]
KEY = ViewKey(CARD.name, "c1")
TOPIC = event_topic("fraud", "transaction").name
NOBODY = MemoryErasures(EraseKey(b"key", "fraud"))
START_US = to_us(datetime(2018, 6, 1, 12, tzinfo=UTC))


def record(offset: int, event_id: str, *, card: str = "c1", at_us: int = START_US, partition: int = 0) -> Record:
    paid = Transaction(
        event_id=event_id, event_time=from_us(at_us), card_id=card, terminal_id="t1", amount_cents=100 + offset
    )
    value = Envelope.seal(paid, ingest_time=datetime.now(UTC), request_id="r").to_bytes()
    return Record(TOPIC, partition, offset, b"", value)


def count(store: MemoryFeatureStore, at_us: int = START_US + HOUR_US) -> float:
    """Payments of the card within a day, as a decision sees it."""
    state, arrived = opened(CARD, store.read([KEY])[0])
    values = Reading(CARD).values(state, arrived, at_us).tolist()
    return float(dict(zip((f.name for f in CARD.features), values, strict=True))["card_transaction_count_24h"])


def stream(store: MemoryFeatureStore, until_offset: int) -> None:
    """What the tiles' job does with everything on the edge below that offset."""
    (stored,) = store.read([KEY])
    state, arrived = opened(CARD, stored)
    rows = arrived[arrived[:, MARK] < mark_of(0, until_offset)]
    (after,), (fresh,) = apply(CARD, [state], [Change(rows, {0: mark_of(0, until_offset)})])
    write = StateWrite(after.pack(CARD), after.newest_us, StateWrite.ending_of(stored.state))
    assert store.write({KEY: write}, PLAN.counted(CARD, partition_of(fresh[:, MARK]))) == []


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
    write = StateWrite(after.pack(CARD), after.newest_us, StateWrite.ending_of(stored.state))
    store.write({KEY: write}, PLAN.counted(CARD, partition_of(fresh[:, MARK])))


FIELDS = {"card_id": "c1", "terminal_id": "t1"}


class Log:
    """A log in memory that may be away."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.started_at: list[Mapping[tuple[str, int], int]] = []
        self.others: list[Record] = []
        """Of another partition."""
        self.held_back = 0
        """How many of these do not come yet."""
        self.away = False
        self._at = self._others_at = 0

    def start(self, positions: Mapping[tuple[str, int], int]) -> None:
        self.started_at.append(dict(positions))
        self._at, self._others_at = positions.get((TOPIC, 0), 0), positions.get((TOPIC, 1), 0)

    def poll(self, timeout_s: float, limit: int) -> list[Record]:  # noqa: ARG002  memory answers at once
        found = self.records[self._at : self._at + limit]
        self._at += len(found)
        others = self.others[self._others_at : len(self.others) - self.held_back]
        self._others_at += len(others)
        return found + others

    def ends(self) -> Mapping[tuple[str, int], int]:
        if self.away:
            raise Unavailable("away")
        return {(TOPIC, 0): len(self.records), (TOPIC, 1): len(self.others)}


class Scene:
    """A pursuit over memory, on clocks that are set by hand."""

    def __init__(self) -> None:
        self.store = MemoryFeatureStore(PLAN)
        self.store.absorb({0: mark_of(0, 0)}, None)
        self.log = Log()
        self.now_s = 0.0
        self.pursuit = Pursuit(
            PLAN,
            EdgeLane(PLAN, self.store, NOBODY),
            self.store,
            self.log,
            self.log,
            steady_s=lambda: self.now_s,
            wall_us=lambda: int(self.now_s * 1e6),
        )

    def send(self, number: int) -> None:
        start = len(self.log.records)
        self.log.records += [record(n, f"e{n}") for n in range(start, start + number)]

    def ties(self) -> Sequence[int]:
        _, arrived = opened(CARD, self.store.read([KEY])[0])
        return [int(tie) for tie in arrived[:, TIE]]


def test_the_lane_follows_and_says_how_far_it_is() -> None:
    scene = Scene()
    assert not scene.pursuit.step()
    scene.send(3)
    scene.pursuit.observe()
    assert scene.pursuit.step()
    assert scene.ties() == [event_hash("transaction", f"e{n}") for n in range(3)]
    scene.now_s = 5.0
    scene.pursuit.observe()
    assert scene.store.progress[Lane.EDGE] == StoreProgress(5_000_000, 5_000_000)


def test_one_look_asks_the_store_once_what_the_tiles_hold() -> None:
    class Asked(MemoryFeatureStore):
        times = 0

        def absorbed(self) -> dict[int, int]:
            self.times += 1
            return super().absorbed()

    store, log = Asked(PLAN), Log()
    pursuit = Pursuit(PLAN, EdgeLane(PLAN, store, NOBODY), store, log, log)
    for looks in range(1, 4):
        pursuit.observe()
        assert store.times == looks


def test_events_of_an_added_partition_are_not_said_to_be_visible_before_they_are() -> None:
    scene = Scene()
    scene.send(1)
    for scene.now_s in (1.0, 2.0):
        scene.pursuit.observe()
        scene.pursuit.step()
    scene.log.others = [record(0, "added", partition=1)]
    scene.log.held_back = 1
    for scene.now_s in (3.0, 4.0):
        scene.pursuit.observe()
        scene.pursuit.step()
    assert scene.store.progress[Lane.EDGE].visible_until_us == 2_000_000
    scene.log.held_back = 0
    for scene.now_s in (5.0, 6.0):
        scene.pursuit.step()
        scene.pursuit.observe()
    assert scene.store.progress[Lane.EDGE].visible_until_us == 6_000_000
    assert event_hash("transaction", "added") in scene.ties()


def test_far_behind_it_lets_the_tiles_go_first_unless_they_stand() -> None:
    scene = Scene()
    scene.send(NEAR_EVENTS + 1)
    scene.pursuit.observe()
    assert scene.pursuit.readiness()[0] is False
    scene.store.absorb({0: mark_of(0, 10)}, None)
    scene.now_s = 9.0
    scene.pursuit.observe()
    assert scene.pursuit.step()
    assert scene.log.started_at == [{(TOPIC, 0): 10}]

    stalled = Scene()
    stalled.send(NEAR_EVENTS + 1)
    stalled.pursuit.observe()
    stalled.now_s = 11.0
    stalled.pursuit.observe()
    assert stalled.pursuit.readiness() == (True, "events are visible")


def test_overtaken_by_the_tiles_it_goes_on_where_they_are() -> None:
    scene = Scene()
    scene.send(4)
    scene.pursuit.observe()
    scene.store.absorb({0: mark_of(0, 2)}, None)
    scene.pursuit.observe()
    scene.pursuit.observe()
    assert scene.log.started_at[-1] == {(TOPIC, 0): 2}
    scene.pursuit.step()
    assert len(scene.ties()) == 2


def test_it_waits_for_a_store_that_nobody_has_filled() -> None:
    scene = Scene()
    scene.send(2)
    scene.pursuit.observe()
    scene.pursuit.step()
    assert len(scene.ties()) == 2
    scene.store.hand_over("rebuild")
    scene.store.edges.clear()
    scene.now_s = 100.0
    scene.pursuit.observe()
    assert not scene.pursuit.step()
    assert scene.store.progress == {}
    scene.store.hand_over(None)
    scene.store.absorb({0: mark_of(0, 1)}, None)
    scene.pursuit.observe()
    scene.pursuit.step()
    assert scene.ties() == [event_hash("transaction", "e1")]


def test_after_a_failure_what_was_polled_is_read_again() -> None:
    scene = Scene()
    scene.send(2)
    scene.pursuit.observe()
    scene.log.poll(0, 10)
    scene.pursuit.restart()
    scene.pursuit.observe()
    scene.pursuit.step()
    assert len(scene.ties()) == 2


def test_a_state_of_another_declaration_leaves_the_edge_alone() -> None:
    store = MemoryFeatureStore(PLAN)
    store.states[KEY] = b"something else, of eight-byte words"
    edge = EdgeLane(PLAN, store, NOBODY)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lane_module, "EDGE_LIMIT", 1)
        edge.take([record(0, "e0"), record(1, "e1")])
    assert store.states[KEY] == b"something else, of eight-byte words"
    assert EntityState.empty(CARD).newest_us == 0


def test_an_event_is_late_behind_its_own_partition_only() -> None:
    store = MemoryFeatureStore(PLAN)
    edge = EdgeLane(PLAN, store, NOBODY)
    edge.take([record(0, "a"), record(0, "b", partition=1)])
    edge.take([record(n, f"p0-{n}", at_us=START_US + n * 24 * HOUR_US) for n in range(1, 4)])
    edge.take([record(1, "slow", at_us=START_US + HOUR_US, partition=1)])
    assert count(store, START_US + 2 * HOUR_US) == 3
    edge.take([record(2, "catches-up", at_us=START_US + 72 * HOUR_US, partition=1)])
    edge.take([record(3, "too-late", at_us=START_US + 2 * HOUR_US, partition=1)])
    assert count(store, START_US + 2 * HOUR_US) == 3


def test_what_is_read_again_after_a_failed_write_or_a_step_back_is_not_late() -> None:
    class Away(MemoryFeatureStore):
        away = True

        def append(self, *args: object) -> dict[ViewKey, int]:
            if self.away:
                raise Unavailable("away")
            return super().append(*args)  # type: ignore[arg-type]

    store = Away(PLAN)
    edge = EdgeLane(PLAN, store, NOBODY)
    backlog = [record(n, f"e{n}", at_us=START_US + n * 30 * HOUR_US) for n in range(4)]
    with pytest.raises(Unavailable):
        edge.take(backlog)
    store.away = False
    edge.take(backlog)
    assert count(store, START_US) == 1

    store.edges.clear()
    edge.begin({0: mark_of(0, 0)})
    edge.take(backlog)
    assert count(store, START_US) == 1


def test_edges_of_an_earlier_process_are_cleared_though_nothing_comes_for_their_entities() -> None:
    scene = Scene()
    scene.log.records = [record(0, "e0"), *(record(n, f"e{n}", card=f"quiet-{n}") for n in range(1, 20))]
    EdgeLane(PLAN, scene.store, NOBODY).take(scene.log.records)
    scene.log.records = scene.log.records[:12]
    scene.store.absorb({0: mark_of(0, 12)}, None)
    for _ in range(30):
        scene.pursuit.observe()
        scene.pursuit.step()
    cards = {key.entity_id for key in scene.store.edges if key.view == CARD.name}
    assert cards == {f"quiet-{n}" for n in range(12, 20)}
    scene.store.absorb({0: mark_of(0, 20)}, None)
    scene.pursuit.observe()
    assert not scene.store.edges


def test_the_store_is_walked_again_after_a_while() -> None:
    scene = Scene()
    scene.pursuit.observe()
    EdgeLane(PLAN, scene.store, NOBODY).take([record(0, "e0", card="left-behind")])
    scene.store.absorb({0: mark_of(0, 1)}, None)
    scene.pursuit.observe()
    assert scene.store.edges
    scene.now_s = 3600.0
    scene.pursuit.observe()
    assert not scene.store.edges


def test_rows_beyond_what_a_process_wrote_itself_are_cleared_too() -> None:
    store = MemoryFeatureStore(PLAN)
    EdgeLane(PLAN, store, NOBODY).take([record(n, f"e{n}") for n in range(4)])
    edge = EdgeLane(PLAN, store, NOBODY)
    edge.take([record(0, "e0")])
    store.absorb({0: mark_of(0, 1)}, None)
    edge.tidy(store.absorbed())
    assert len(opened(CARD, store.read([KEY])[0])[1]) == 3
    store.absorb({0: mark_of(0, 4)}, None)
    edge.tidy(store.absorbed())
    assert not store.edges


def at_rest(scene: Scene) -> None:
    """Edge and tiles have come to the end of the log, one after the other, and the store has been walked over since."""
    scene.pursuit.observe()
    scene.pursuit.step()
    stream(scene.store, len(scene.log.records))
    scene.store.absorb({0: mark_of(0, len(scene.log.records))}, None)
    for _ in range(2):
        scene.now_s += 3600.0
        for _ in range(10):
            scene.pursuit.observe()
            scene.pursuit.step()


def test_an_entity_is_forgotten_by_event_time_and_not_by_the_wall_s() -> None:
    scene = Scene()
    scene.send(1)
    at_rest(scene)
    scene.now_s += 400 * 24 * 3600.0
    at_rest(scene)
    assert count(scene.store) == 1

    lateness_us, last_us = 24 * HOUR_US, START_US + CARD.lifetime_us
    for card, at_us in (("other", last_us + lateness_us), ("another", last_us + lateness_us + 1_000_000)):
        assert KEY in scene.store.states
        scene.log.records.append(record(len(scene.log.records), card, card=card, at_us=at_us))
        at_rest(scene)
    assert KEY not in scene.store.states


def test_nothing_is_forgotten_before_every_partition_was_read_that_far() -> None:
    scene = Scene()
    scene.send(1)
    at_rest(scene)
    scene.pursuit.restart()
    far_us = START_US + 3 * CARD.lifetime_us
    scene.log.records.append(record(1, "ahead", card="other", at_us=far_us))
    scene.log.others = [record(0, "behind", card="other", at_us=START_US, partition=1)]
    scene.log.held_back = 1
    at_rest(scene)
    assert KEY in scene.store.states, "of the other partition nothing was read"
    scene.log.held_back = 0
    at_rest(scene)
    assert KEY in scene.store.states, "the other partition is behind"
    scene.log.others.append(record(1, "there", card="other", at_us=far_us, partition=1))
    at_rest(scene)
    assert KEY not in scene.store.states


def test_a_partition_that_has_fallen_silent_keeps_nobody_in_the_store() -> None:
    scene = Scene()
    scene.log.others = [record(0, "last", card="other", at_us=START_US, partition=1)]
    scene.send(1)
    at_rest(scene)
    scene.log.records.append(record(1, "ahead", card="other", at_us=START_US + 3 * CARD.lifetime_us))
    at_rest(scene)
    assert KEY not in scene.store.states
