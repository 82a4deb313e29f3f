"""The pursuit follows the log, says how far it is, and loses nothing to failures."""

from __future__ import annotations

import pytest

from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.kernel.durations import HOUR_US
from flywheel.kernel.ports import Lane, StoreProgress, Unavailable, ViewKey
from flywheel.kernel.rows import event_hash
from flywheel.kernel.state import EntityState, mark_of
from services.features.edge import lane as lane_module
from services.features.edge.lane import EdgeLane
from services.features.edge.pursuit import NEAR_EVENTS, Pursuit
from tests.edge_scene import CARD, KEY, NOBODY, PLAN, START_US, TOPIC, Log, Scene, count, record


def test_the_lane_follows_and_says_how_far_it_is() -> None:
    scene = Scene()
    assert not scene.pursuit.step()
    scene.send(3)
    scene.pursuit.observe()
    assert scene.pursuit.step()
    assert scene.ties() == [event_hash("transaction", f"e{n}") for n in range(3)]
    scene.now_s = 5.0
    scene.pursuit.observe()
    assert scene.store.progress[Lane.EDGE] == StoreProgress(5_000_000, 5_000_000, START_US)


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
