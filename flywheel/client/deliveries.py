"""In what order and shape a day of the world reaches the platform: late, doubled and broken as the knobs say.

Pure and deterministic like the world itself, so that a position in a day means the same after a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from flywheel.kernel.durations import DAY_US, HOUR_US, MINUTE_US
from flywheel.kernel.world import Day, Occurrence, World, WorldKnobs

SHORTEST_DELAY_US = MINUTE_US
LONGEST_DELAY_US = 6 * HOUR_US
_STREAM = 101


class Kind(StrEnum):
    """What is the matter with a delivery."""

    PLAIN = "plain"
    LATE = "late"
    DUPLICATE = "duplicate"
    MALFORMED = "malformed"
    QUESTION = "question"
    """Not an event: only the decision that is asked for when an event happens that will be sent late."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Something the driver does at `at_us` (event clock): ask for a decision, send the event, or both in this order."""

    at_us: int
    kind: Kind
    event_name: str
    fields: Mapping[str, Any]
    asks: bool
    sends: bool


class Deliveries:
    """The deliveries of each day. Delays stay below a day, so a day only has to look at the one before."""

    def __init__(self, world: World, knobs: WorldKnobs, request_name: str) -> None:
        self._world = world
        self._knobs = knobs
        self._request_name = request_name
        self._carried: dict[int, list[Delivery]] = {}

    def of_day(self, number: int) -> tuple[list[Delivery], Day]:
        """All deliveries that fall on the day, ordered by time, and the day itself."""
        if number > 0 and number - 1 not in self._carried:
            self._plan(number - 1)
        day, own = self._plan(number)
        deliveries = own + self._carried.get(number - 1, [])
        deliveries.sort(key=lambda delivery: delivery.at_us)
        return deliveries, day

    def _plan(self, number: int) -> tuple[Day, list[Delivery]]:
        day = self._world.day(number)
        end_us = self._world.start_us + (number + 1) * DAY_US
        planned = self._disturb(day)
        self._carried = {key: value for key, value in self._carried.items() if key == number - 1} | {
            number: [delivery for delivery in planned if delivery.at_us >= end_us]
        }
        return day, [delivery for delivery in planned if delivery.at_us < end_us]

    def _disturb(self, day: Day) -> list[Delivery]:
        knobs = self._knobs
        rng = np.random.default_rng([knobs.seed, _STREAM, day.number])
        late, double, broken = rng.random((3, len(day.events)))
        late_us, double_us = rng.integers(SHORTEST_DELAY_US, LONGEST_DELAY_US, (2, len(day.events))).tolist()
        planned: list[Delivery] = []
        for row, event in enumerate(day.events):
            asks = event.event_name == self._request_name
            at_us = event.event_time_us
            if late[row] < knobs.late_share:
                if asks:
                    planned.append(Delivery(at_us, Kind.QUESTION, event.event_name, event.fields, True, False))
                at_us += late_us[row]
                planned.append(Delivery(at_us, Kind.LATE, event.event_name, event.fields, False, True))
            else:
                planned.append(Delivery(at_us, Kind.PLAIN, event.event_name, event.fields, asks, True))
            if double[row] < knobs.duplicate_share:
                planned.append(
                    Delivery(at_us + double_us[row], Kind.DUPLICATE, event.event_name, event.fields, False, True)
                )
            if broken[row] < knobs.malformed_share:
                planned.append(Delivery(at_us, Kind.MALFORMED, event.event_name, spoil(event, row), False, True))
        return planned


def spoil(event: Occurrence, variant: int) -> dict[str, Any]:
    """The event's fields broken in one of four ways, under an id of their own."""
    fields = {**event.fields, "event_id": f"bad-{event.fields['event_id']}"}
    last = list(fields)[-1]
    match variant % 4:
        case 0:
            del fields[last]
        case 1:
            fields["event_time"] = "yesterday"
        case 2:
            fields["unexpected"] = "field"
        case _:
            fields[last] = [fields[last]]
    return fields
