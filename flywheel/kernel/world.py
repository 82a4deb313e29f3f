"""What every use case's simulated world looks like to the driver that plays it.

A use case names a module in `UseCase.world`. The module exposes `Knobs`, a `WorldKnobs`, and `build(knobs)`, which
returns a `World`. A world is a pure function of its knobs: asked twice for a day it answers the same, and it
answers for any day without having been asked for the days before. So a stopped world continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flywheel.contracts.events import from_us
from flywheel.kernel.durations import DAY_US

Share = Annotated[float, Field(ge=0, le=1)]


class Drift(StrEnum):
    """What changes on the day of drift."""

    AMOUNTS = "amounts"
    VOLUME = "volume"


class WorldKnobs(BaseModel):
    """What can be turned in any world. Days are numbered from 0, the world's first."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    seed: int = Field(default=0, ge=0)
    """Another seed is another world; the same one is the same world."""
    history_days: int = Field(default=60, ge=0)
    """Days that are loaded at once; after them the world is live."""
    rate: float = Field(default=50.0, gt=0)
    """Requests per second of wall clock, on the average of a day; the speed of the event clock follows from it."""
    prevalence: float = Field(default=1.0, ge=0)
    """Factor on how often the positive label comes about."""
    drift_day: int | None = Field(default=None, ge=0)
    """The day on which the world changes; without one it never does. In a running world name a day that lies ahead."""
    drift_kind: Drift = Drift.AMOUNTS
    """What changes then."""
    drift_factor: float = Field(default=1.5, gt=0)
    """By how much it is multiplied."""
    late_share: Share = 0.01
    """Share of events that arrive hours after they happened."""
    duplicate_share: Share = 0.01
    """Share of events that are sent a second time."""
    malformed_share: Share = 0.002
    """Events that break the schema, sent in addition, as a share of the good ones."""
    label_delay_min_days: float = Field(default=2.0, ge=0)
    """A label comes no sooner after its event."""
    label_delay_max_days: float = Field(default=7.0, ge=0, le=365)
    """And no later."""
    decisions: bool = True
    """Whether a decision is asked for before a live request event is sent."""

    @model_validator(mode="after")
    def _delays_are_ordered(self) -> Self:
        if self.label_delay_max_days < self.label_delay_min_days:
            raise ValueError("label_delay_max_days must not be below label_delay_min_days")
        return self

    def drift_of(self, kind: Drift, day: int) -> float:
        """The factor by which that kind of drift multiplies on that day; 1.0 without drift.

        >>> WorldKnobs(drift_day=3).drift_of(Drift.AMOUNTS, 3)
        1.5
        """
        has_come = self.drift_day is not None and day >= self.drift_day
        return self.drift_factor if has_come and self.drift_kind is kind else 1.0


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One event of the world: `fields` is what ingest is sent, JSON-ready, id and time included."""

    event_name: str
    event_time_us: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Truth:
    """What really lies behind an event. Written aside for people; no feature and no model reads it."""

    event_id: str
    cause: str


@dataclass(frozen=True)
class Day:
    """All that happens on one day of the world: events ordered by time, and the truth about them."""

    number: int
    events: Sequence[Occurrence]
    truth: Sequence[Truth]


class World(Protocol):
    """A simulated world of one use case."""

    @property
    def start_us(self) -> int:
        """Midnight of day 0, microseconds since the Unix epoch."""

    @property
    def daily_requests(self) -> float:
        """Request events to be expected on an undrifted day."""

    def day(self, number: int) -> Day:
        """Day `number`; the same whenever it is asked for."""


def clock_speed(world: World, rate: float) -> float:
    """Event seconds that pass in a second of wall clock when `rate` requests a second are to come out of it."""
    return rate / world.daily_requests * DAY_US / 1_000_000


def day_name(world: World, number: int) -> str:
    """The date of a day, for people: `2018-04-01`."""
    return from_us(world.start_us + number * DAY_US).date().isoformat()
