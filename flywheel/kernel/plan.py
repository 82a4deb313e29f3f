"""What a declaration demands of the engines: per entity, which tiles are kept, how long, and how features read them.

Batch, stream and read path are all driven by this plan, so none of them knows a feature by name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.events import Event
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.durations import DAY_US, HOUR_US, MINUTE_US, parse_duration
from flywheel.kernel.features import Entity, Statistic, WindowedFeature

STEPS_US = (MINUTE_US, HOUR_US, DAY_US)
"""Tile sizes, finest first. A coarser tile is always the merge of the finer ones in it."""


@dataclass(frozen=True)
class Measure:
    """What a tile holds about one event: how many (`field=None`), or sum, minimum and maximum of a field."""

    event: type[Event]
    field: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        name = self.event.event_name
        if self.field is None:
            return (f"{name}_n",)
        return tuple(f"{name}_{self.field}_{part}" for part in ("sum", "min", "max"))


def column_of(feature: WindowedFeature, part: str) -> str:
    """The tile column of a feature's event: `n`, `sum`, `min` or `max`."""
    name = feature.event.event_name
    return f"{name}_n" if part == "n" else f"{name}_{feature.field}_{part}"


@dataclass(frozen=True)
class Lane:
    """The tiles of one size, kept for `retention_us` behind the entity's newest event."""

    step_us: int
    retention_us: int


@dataclass(frozen=True)
class LaneWindows:
    """The windows that are read from one lane: places of their features in the view, and where they begin and end.

    `edges_us` alternates first tile start inside and first past a window, relative to the tile of the reading.
    """

    step_us: int
    places: tuple[int, ...]
    edges_us: NDArray[np.int64]


@dataclass(frozen=True)
class TileView:
    """All windowed state of one entity, stored as one packed value."""

    name: str
    entity: Entity
    measures: tuple[Measure, ...]
    lanes: tuple[Lane, ...]
    features: tuple[WindowedFeature, ...]

    @property
    def history_name(self) -> str:
        """Name of the view's values as of past events, for training."""
        return f"{self.name.removesuffix('_tiles')}_history"

    @cached_property
    def events(self) -> tuple[type[Event], ...]:
        return tuple(measure.event for measure in self.measures if measure.field is None)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        return tuple(column for measure in self.measures for column in measure.columns)

    @cached_property
    def tile_dtype(self) -> np.dtype[np.void]:
        """One tile: where it starts (microseconds) and its columns."""
        fields = [(name, "<i4" if name.endswith("_n") else "<f8") for name in self.columns]
        return np.dtype([("start_us", "<i8"), *fields])

    @cached_property
    def lane_windows(self) -> tuple[LaneWindows, ...]:
        """What is read from each lane, made once: a decision has no time to plan."""
        found = []
        for lane in self.lanes:
            places = tuple(place for place, f in enumerate(self.features) if f.step_us == lane.step_us)
            edges = [edge for place in places for edge in self.features[place].edges_us]
            found.append(LaneWindows(lane.step_us, places, np.array(edges, np.int64)))
        return tuple(found)

    @cached_property
    def fingerprint(self) -> int:
        """Unsigned 64 bits that change with the layout, so that a foreign value is refused and never misread."""
        text = f"{self.name}|{self.tile_dtype.descr}|{self.lanes}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


@dataclass(frozen=True)
class FeaturePlan:
    """The plan of one use case: one view for each entity that has windowed features."""

    usecase: UseCase
    views: tuple[TileView, ...]

    @property
    def events(self) -> tuple[type[Event], ...]:
        """Events that contribute to any view, in the order of the declaration."""
        used = {event for view in self.views for event in view.events}
        return tuple(event for event in self.usecase.events if event in used)

    @property
    def columns(self) -> tuple[str, ...]:
        """Tile columns of all views, each once."""
        return tuple(dict.fromkeys(column for view in self.views for column in view.columns))


def compile_plan(usecase: UseCase) -> FeaturePlan:
    """The plan of a use case; the same declaration always gives the same plan."""
    lateness_us = parse_duration(usecase.lateness)
    views = []
    for entity in usecase.entities:
        features = tuple(feature for feature in usecase.windowed if feature.entity == entity)
        if features:
            views.append(
                TileView(
                    name=f"{usecase.name}_{entity.name}_tiles",
                    entity=entity,
                    measures=_measures(features),
                    lanes=_lanes(features, lateness_us),
                    features=features,
                )
            )
    return FeaturePlan(usecase, tuple(views))


def _measures(features: tuple[WindowedFeature, ...]) -> tuple[Measure, ...]:
    measures: dict[Measure, None] = {}
    for feature in features:
        measures[Measure(feature.event)] = None
        if feature.statistic is not Statistic.COUNT:
            measures[Measure(feature.event, feature.field)] = None
    return tuple(measures)


def _lanes(features: tuple[WindowedFeature, ...], lateness_us: int) -> tuple[Lane, ...]:
    coarsest = max(feature.step_us for feature in features)
    steps = [step for step in STEPS_US if step <= coarsest]
    lanes = []
    for index, step_us in enumerate(steps):
        needed = [f.window_us + f.delay_us for f in features if f.step_us == step_us]
        if index + 1 < len(steps):
            # An event up to `lateness` old may still change the next coarser tile, which is merged anew from these.
            needed.append(lateness_us + steps[index + 1])
        lanes.append(Lane(step_us, max(needed, default=0) + step_us))
    return tuple(lanes)
