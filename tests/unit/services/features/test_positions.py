"""Positions in the log and the marks of the store are two words for the same places."""

from __future__ import annotations

import pytest

from flywheel.kernel import catalog
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.state import mark_of
from services.features.positions import counted_only, events_by_topic, flattened, marks_of, positions_of

PLAN = compile_plan(catalog.load("fraud"))
PAID, REPORTED = (f"fraud.events.{event.event_name}" for event in PLAN.events)
POSITIONS = {(PAID, 0): 7, (PAID, 1): 0, (REPORTED, 11): 3}


def test_marks_number_the_partitions_of_all_topics_through() -> None:
    first = PLAN.partition(PLAN.events[1].event_name, 0)
    assert marks_of(PLAN, POSITIONS) == {0: 7, 1: mark_of(1, 0), first + 11: mark_of(first + 11, 3)}
    assert positions_of(PLAN, marks_of(PLAN, POSITIONS)) == POSITIONS


def test_positions_of_what_is_not_counted_are_left_out_and_have_no_mark() -> None:
    other = {("fraud.events.something_else", 0): 5}
    assert counted_only(PLAN, POSITIONS | other) == POSITIONS
    assert list(events_by_topic(PLAN)) == [PAID, REPORTED]
    with pytest.raises(KeyError):
        marks_of(PLAN, other)


def test_offsets_of_spark_by_topic_and_number() -> None:
    assert flattened({PAID: {"0": 7, "1": 0}, REPORTED: {"11": 3}}) == POSITIONS
