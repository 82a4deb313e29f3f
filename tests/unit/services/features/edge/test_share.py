"""Several lanes share the log: each event once on an edge, and nothing said to be visible before it is for all."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel.durations import HOUR_US, parse_duration
from flywheel.kernel.ports import Lane, Record, Unavailable
from flywheel.kernel.rows import event_hash
from flywheel.kernel.state import mark_of
from services.features.edge.lane import EdgeLane
from services.features.edge.pursuit import Pursuit
from services.features.edge.share import Share, Told, share_of
from tests.edge_scene import KEY, NOBODY, PLAN, START_US, TOPIC, opened_ties, record

Place = tuple[str, int]


class Said:
    """What lanes said, in memory."""

    def __init__(self) -> None:
        self.last: dict[Place, Told] = {}
        self.away = False

    def tell(self, told: Mapping[Place, Told]) -> None:
        if self.away:
            raise Unavailable("away")
        self.last |= told

    def hear(self, places: list[Place]) -> dict[Place, Told]:
        return {place: self.last[place] for place in places if place in self.last}


class Log:
    """Two partitions, of which a lane follows its own."""

    def __init__(self) -> None:
        self.records: dict[Place, list[Record]] = {(TOPIC, 0): [], (TOPIC, 1): []}

    def send(self, partition: int, event_id: str, at_us: int = START_US) -> None:
        held = self.records[TOPIC, partition]
        held.append(record(len(held), event_id, partition=partition, at_us=at_us))

    def ends(self) -> Mapping[Place, int]:
        return {place: len(held) for place, held in self.records.items()}


class Following:
    """One lane's reading of it."""

    def __init__(self, log: Log, share: Share) -> None:
        self._log, self._share = log, share
        self._at: dict[Place, int] = {}

    def start(self, positions: Mapping[Place, int]) -> None:
        self._at = {place: positions.get(place, 0) for place in self._share.part(self._log.records)}

    def poll(self, timeout_s: float, limit: int) -> list[Record]:  # noqa: ARG002  memory answers at once
        found = [each for place, at in self._at.items() for each in self._log.records[place][at:]]
        self._at = {place: len(self._log.records[place]) for place in self._at}
        return found


class Scene:
    """Two lanes over one store, each turned by hand."""

    def __init__(self) -> None:
        self.store, self.log, self.said = MemoryFeatureStore(PLAN), Log(), Said()
        self.store.absorb({0: mark_of(0, 0), 1: mark_of(1, 0)}, None)
        self.now_s = 0.0
        self.lanes = [self.lane(number) for number in range(2)]

    def lane(self, number: int) -> Pursuit:
        share = Share(number, 2)
        return Pursuit(
            PLAN,
            EdgeLane(PLAN, self.store, NOBODY),
            self.store,
            Following(self.log, share),
            self.log,
            share=share,
            peers=self.said,
            steady_s=lambda: self.now_s,
            wall_us=lambda: int(self.now_s * 1e6),
        )

    def turn(self, *lanes: Pursuit) -> None:
        self.now_s += 1
        for lane in lanes or self.lanes:
            lane.observe()
            lane.step()

    def visible_s(self) -> float:
        """0 while nothing is said to be visible."""
        found = self.store.progress.get(Lane.EDGE)
        return 0 if found is None else found.visible_until_us / 1e6


def test_each_lane_puts_its_own_partitions_on_the_edges() -> None:
    scene = Scene()
    scene.log.send(0, "even")
    scene.log.send(1, "odd")
    scene.turn(scene.lanes[0])
    assert opened_ties(scene.store, KEY) == {event_hash("transaction", "even")}
    scene.turn(scene.lanes[1])
    assert opened_ties(scene.store, KEY) == {event_hash("transaction", name) for name in ("even", "odd")}


def test_nothing_is_visible_before_every_lane_has_said_so() -> None:
    scene = Scene()
    scene.log.send(0, "even")
    scene.log.send(1, "odd")
    for _ in range(3):
        scene.turn(scene.lanes[0])
    assert not scene.visible_s()
    for _ in range(3):
        scene.turn()
    assert scene.visible_s() >= scene.now_s - 1


def test_a_lane_that_stands_holds_the_others_back_until_it_goes_on() -> None:
    scene = Scene()
    scene.log.send(1, "odd")
    for _ in range(3):
        scene.turn()
    before_s = scene.now_s
    scene.log.send(1, "more")
    for _ in range(5):
        scene.turn(scene.lanes[0])
    assert scene.visible_s() <= before_s
    # Started anew, it begins where the tiles are.
    scene.lanes[1] = scene.lane(1)
    for _ in range(3):
        scene.turn()
    assert scene.visible_s() > before_s
    assert event_hash("transaction", "more") in opened_ties(scene.store, KEY)


def test_lanes_that_cannot_hear_each_other_go_on_and_say_no_more_than_they_know() -> None:
    scene = Scene()
    scene.log.send(1, "odd")
    for _ in range(3):
        scene.turn()
    before_s, scene.said.away = scene.now_s, True
    scene.log.send(0, "even")
    scene.log.send(1, "more")
    for _ in range(3):
        scene.turn()
    assert {event_hash("transaction", name) for name in ("even", "more")} < opened_ties(scene.store, KEY)
    assert scene.visible_s() <= before_s
    scene.said.away = False
    for _ in range(3):
        scene.turn()
    assert scene.visible_s() > before_s + 3


def test_what_was_said_of_a_store_that_is_lost_is_not_believed() -> None:
    scene = Scene()
    scene.log.send(0, "even")
    scene.log.send(1, "odd")
    for _ in range(3):
        scene.turn()
    scene.store.hand_over(None)
    scene.turn(scene.lanes[0])
    scene.store.absorb({0: mark_of(0, 0), 1: mark_of(1, 0)}, None)
    for _ in range(3):
        # The other is dead: what it had put on the edges is gone with the store.
        scene.turn(scene.lanes[0])
    assert not scene.visible_s()
    for _ in range(3):
        scene.turn()
    assert scene.visible_s()


def test_another_stream_s_store_is_another_store() -> None:
    scene = Scene()
    scene.store.claim("first")
    scene.log.send(1, "odd")
    for _ in range(3):
        scene.turn()
    scene.store.hand_over("second")
    scene.store.absorb({0: mark_of(0, 0), 1: mark_of(1, 0)}, "second")
    # Neither saw it happen; one is started anew, the other is dead.
    scene.lanes[0] = scene.lane(0)
    for _ in range(3):
        scene.turn(scene.lanes[0])
    assert not scene.visible_s()


def test_time_passes_by_the_partitions_of_all() -> None:
    """The lane that is ahead must not forget what events of a partition of the other's may still need."""
    lane = EdgeLane(PLAN, store := MemoryFeatureStore(PLAN), NOBODY)
    store.absorb({0: mark_of(0, 0)}, None)
    lane.begin({})
    lane.take([record(0, "ahead", at_us=START_US + HOUR_US)])
    lane.hear({(TOPIC, 1): START_US})
    assert lane.take_passed_us() == START_US - parse_duration(PLAN.usecase.lateness)
    assert lane.newest_of((TOPIC, 0)) == START_US + HOUR_US
    lane.hear({(TOPIC, 1): START_US})
    assert lane.take_passed_us() is None


def test_a_share_that_there_is_not_is_refused() -> None:
    assert share_of(PlatformSettings(edge_replica=1, edge_replicas=2)) == Share(1, 2)
    with pytest.raises(ValueError, match="FLYWHEEL_EDGE_REPLICA is 2, but of 2 lanes the last is 1"):
        share_of(PlatformSettings(edge_replica=2, edge_replicas=2))
