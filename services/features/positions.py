"""Positions in Kafka's log, and the marks by which the store knows them."""

from __future__ import annotations

from collections.abc import Mapping

from flywheel.contracts.events import Event
from flywheel.contracts.topics import event_topic
from flywheel.kernel.plan import FeaturePlan
from flywheel.kernel.state import mark_of, offset_of

Positions = Mapping[tuple[str, int], int]
"""Next offset by topic and partition."""


def events_by_topic(plan: FeaturePlan) -> dict[str, type[Event]]:
    """The events that are counted, by the topic that carries them."""
    return {event_topic(plan.usecase.name, event.event_name).name: event for event in plan.events}


def counted_only(plan: FeaturePlan, positions: Positions) -> dict[tuple[str, int], int]:
    """The positions in topics whose events are counted."""
    topics = events_by_topic(plan)
    return {place: offset for place, offset in positions.items() if place[0] in topics}


def flattened(offsets: Mapping[str, Mapping[str, int]]) -> dict[tuple[str, int], int]:
    """Positions out of offsets as Spark writes them down: by topic, then by partition."""
    return {(topic, int(number)): offset for topic, parts in offsets.items() for number, offset in parts.items()}


def marks_of(plan: FeaturePlan, positions: Positions) -> dict[int, int]:
    """Marks by partition as the plan numbers them. KeyError for a topic whose events are not counted."""
    topics = events_by_topic(plan)
    numbered = {
        plan.partition(topics[topic].event_name, number): offset for (topic, number), offset in positions.items()
    }
    return {partition: mark_of(partition, offset) for partition, offset in numbered.items()}


def positions_of(plan: FeaturePlan, marks: Mapping[int, int]) -> dict[tuple[str, int], int]:
    """The positions that have these marks."""
    found = {}
    for partition, mark in marks.items():
        event_name, number = plan.topic_partition(partition)
        found[event_topic(plan.usecase.name, event_name).name, number] = offset_of(mark)
    return found
