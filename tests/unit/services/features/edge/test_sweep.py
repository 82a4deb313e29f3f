"""What nobody needs any more leaves the edges and the store, though nothing comes for it."""

from __future__ import annotations

from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.kernel.durations import HOUR_US
from flywheel.kernel.hydration import opened
from flywheel.kernel.state import mark_of
from services.features.edge.lane import EdgeLane
from tests.edge_scene import CARD, KEY, NOBODY, PLAN, START_US, Scene, count, record, stream


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
