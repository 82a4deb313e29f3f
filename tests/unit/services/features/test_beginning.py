"""After a rebuild the tile query begins where no event is missed and ids that may come again are read."""

from __future__ import annotations

import json

from services.features.beginning import starting_offsets

REBUILT = {"events.a": {"0": 100, "1": 50}}
KEPT = {("events.a", 0): 0, ("events.a", 1): 0}


def test_without_a_rebuild_it_begins_at_the_earliest() -> None:
    assert starting_offsets({}, {}, KEPT) == "earliest"


def test_it_begins_at_the_first_recent_event() -> None:
    found = json.loads(starting_offsets(REBUILT, {("events.a", 0): 70, ("events.a", 1): 49}, KEPT))
    assert found == {"events.a": {"0": 70, "1": 49}}


def test_a_partition_without_recent_events_goes_on_at_its_position() -> None:
    assert json.loads(starting_offsets(REBUILT, {("events.a", 0): 70}, KEPT))["events.a"]["1"] == 50


def test_nothing_is_passed_over() -> None:
    found = json.loads(starting_offsets(REBUILT, {("events.a", 0): 180}, KEPT))
    assert found["events.a"]["0"] == 100


def test_it_asks_for_nothing_that_the_broker_has_dropped_unless_it_is_needed() -> None:
    kept = {("events.a", 0): 90, ("events.a", 1): 60}
    found = json.loads(starting_offsets(REBUILT, {("events.a", 0): 70, ("events.a", 1): 10}, kept))
    assert found == {"events.a": {"0": 90, "1": 50}}


def test_partitions_and_topics_that_came_later_are_read_whole() -> None:
    kept = {**KEPT, ("events.a", 2): 0, ("events.b", 0): 7}
    found = json.loads(starting_offsets(REBUILT, {}, kept))
    assert found == {"events.a": {"0": 100, "1": 50, "2": -2}, "events.b": {"0": -2}}
