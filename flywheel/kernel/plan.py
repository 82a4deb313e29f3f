"""What a declaration demands of the engines: per entity, what is kept of its events, how long, and who reads it.

Batch, stream and read path are all driven by this plan, so none of them knows a feature by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.events import Event
from flywheel.kernel.conditions import Condition
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.durations import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from flywheel.kernel.features import EXACT_US, Entity, Statistic, WindowedFeature

TILE_STEPS_US = (MINUTE_US, HOUR_US, DAY_US)
"""Steps of windows that are read from tiles, finest first."""
SLACK_US = 10 * MINUTE_US
"""A reading is exact for moments up to this much behind the entity's newest event."""
RAW_LIMIT = 512
"""How many of an entity's newest events are kept as they came; older ones of the same minutes go into seconds."""

_PARTITIONS = 1024
"""Partitions a topic can have; a position has room for 32 topics of these."""

FIXED_CELLS = 3
"""Cells of a row before those of its sources: event time, id hash and mark of arrival."""


@dataclass(frozen=True)
class Intake:
    """A way in which an event comes to an entity: by the fields that hold the entity's id."""

    event: type[Event]
    key_fields: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """What one event contributes to an entity, as one cell: a number, or the hash of a value.

    Without a field an event contributes 1. An event that does not meet the conditions contributes nothing.
    """

    intake: Intake
    conditions: tuple[Condition, ...] = ()
    field: str | None = None
    hashed: bool = False

    @property
    def fields(self) -> frozenset[str]:
        """Fields of the event that are looked at."""
        return frozenset(c.field for c in self.conditions) | ({self.field} if self.field else frozenset())


class Part(StrEnum):
    """One component of a mergeable state."""

    N = "n"
    SUM = "sum"
    M2 = "m2"
    MIN = "min"
    MAX = "max"
    FIRST = "first"
    LAST = "last"
    DECAYED = "decayed"
    DISTINCT = "distinct"


@dataclass(frozen=True)
class Aggregate:
    """A component that a tile holds about a source.

    FIRST and LAST hold `depth` entries of (event time, id hash, value); DECAYED is as of the tile's end.
    """

    source: Source
    part: Part
    depth: int = 0
    half_life_us: int = 0

    @property
    def cells(self) -> int:
        """How many 8-byte cells a tile spends on it; DISTINCT lies beside the cells, having no fixed size."""
        if self.part is Part.DISTINCT:
            return 0
        return 3 * self.depth if self.part in (Part.FIRST, Part.LAST) else 1


_PARTS = {
    Statistic.COUNT: (Part.N,),
    Statistic.SUM: (Part.SUM,),
    Statistic.MEAN: (Part.N, Part.SUM),
    Statistic.MIN: (Part.MIN,),
    Statistic.MAX: (Part.MAX,),
    Statistic.VARIANCE: (Part.N, Part.SUM, Part.M2),
    Statistic.STDDEV: (Part.N, Part.SUM, Part.M2),
    Statistic.DISTINCT: (Part.DISTINCT,),
    Statistic.FIRST: (Part.FIRST,),
    Statistic.LAST: (Part.LAST,),
    Statistic.SINCE_LAST: (Part.LAST,),
    Statistic.DECAYED: (Part.DECAYED,),
}


def source_of(feature: WindowedFeature) -> Source:
    """What the feature aggregates."""
    intake = Intake(feature.event, feature.key_fields)
    return Source(intake, feature.conditions, feature.field, hashed=feature.statistic is Statistic.DISTINCT)


@dataclass(frozen=True)
class Lane:
    """The tiles of one size: kept while a moment no older than `SLACK_US` behind the newest event reads them.

    The first lane, of seconds, says how long events are kept as they came, and holds those that are too many for that.
    """

    step_us: int
    reach_us: int
    aggregates: tuple[Aggregate, ...]

    def oldest_us(self, newest_us: int) -> int:
        """Tiles that start before this are read by nobody."""
        read_us = newest_us - SLACK_US
        return read_us - read_us % self.step_us - self.reach_us

    @cached_property
    def places(self) -> dict[tuple[Source, Part, int], int]:
        """First cell of each aggregate, by source, part and half-life; cell 0 is the tile's start."""
        found, cell = {}, 1
        for aggregate in self.aggregates:
            found[aggregate.source, aggregate.part, aggregate.half_life_us] = cell
            cell += aggregate.cells
        return found

    @cached_property
    def width(self) -> int:
        """Cells of one tile."""
        return 1 + sum(aggregate.cells for aggregate in self.aggregates)

    @cached_property
    def distinct(self) -> tuple[Source, ...]:
        """Sources whose different values are held beside the cells."""
        return tuple(a.source for a in self.aggregates if a.part is Part.DISTINCT)

    def depth(self, source: Source, part: Part) -> int:
        """How many entries FIRST or LAST of the source have."""
        return next(a.depth for a in self.aggregates if (a.source, a.part) == (source, part))


@dataclass(frozen=True)
class TileView:
    """All windowed state of one entity, stored as two packed values: the tiles and, newer than these, the edge."""

    name: str
    entity: Entity
    sources: tuple[Source, ...]
    lanes: tuple[Lane, ...]
    features: tuple[WindowedFeature, ...]

    @property
    def history_name(self) -> str:
        """Name of the view's values as of past events, for training."""
        return f"{self.name.removesuffix('_tiles')}_history"

    @cached_property
    def intakes(self) -> tuple[Intake, ...]:
        """Every way in which an event comes to the view."""
        return tuple(dict.fromkeys(source.intake for source in self.sources))

    @cached_property
    def events(self) -> tuple[type[Event], ...]:
        return tuple(dict.fromkeys(intake.event for intake in self.intakes))

    def fields_of(self, event: type[Event]) -> tuple[str, ...]:
        """Fields of the event that the view looks at: those of its keys and of its sources."""
        mine = [source for source in self.sources if source.intake.event is event]
        names = {name for source in mine for name in (*source.fields, *source.intake.key_fields)}
        return tuple(name for name in event.model_fields if name in names)

    @cached_property
    def row_cells(self) -> int:
        """Cells of one event's row."""
        return FIXED_CELLS + len(self.sources)

    @cached_property
    def lifetime_us(self) -> int:
        """How long after its newest event a moment can still read anything of an entity."""
        return max(lane.reach_us + lane.step_us for lane in self.lanes) + SLACK_US

    @cached_property
    def fingerprint(self) -> int:
        """Unsigned 64 bits that change with the layout, so that a foreign value is refused and never misread."""
        lanes = [(lane.step_us, lane.reach_us, [_identity(a) for a in lane.aggregates]) for lane in self.lanes]
        text = f"{self.name}|{[_source_identity(s) for s in self.sources]}|{lanes}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _source_identity(source: Source) -> str:
    conditions = " and ".join(map(str, source.conditions))
    return f"{source.intake.event.event_name} by {source.intake.key_fields} {source.field} {source.hashed} {conditions}"


def _identity(aggregate: Aggregate) -> str:
    return f"{_source_identity(aggregate.source)} {aggregate.part} {aggregate.depth} {aggregate.half_life_us}"


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

    def partition(self, event_name: str, number: int) -> int:
        """One number for a partition of an event's topic, by which positions of all topics are told apart."""
        names = [event.event_name for event in self.events]
        return names.index(event_name) * _PARTITIONS + number

    def topic_partition(self, partition: int) -> tuple[str, int]:
        """The event by name, and the partition of its topic, that have this number."""
        return self.events[partition // _PARTITIONS].event_name, partition % _PARTITIONS

    def counted(self, view: TileView, partitions: NDArray[np.int64]) -> dict[str, int]:
        """How many events came from these partitions, by `<view>.<event>`; one partition for each event."""
        return counted_of(self.events, view, partitions)

    def fields_of(self, event: type[Event]) -> tuple[str, ...]:
        """Fields of the event that any view looks at."""
        names = {name for view in self.views for name in view.fields_of(event)}
        return tuple(name for name in event.model_fields if name in names)


def counted_of(events: Sequence[type[Event]], view: TileView, partitions: NDArray[np.int64]) -> dict[str, int]:
    """`FeaturePlan.counted` of a plan with these events, for where the whole plan is too much to send."""
    numbers = np.bincount(partitions // _PARTITIONS, minlength=len(events)).tolist()
    return {f"{view.name}.{event.event_name}": number for event, number in zip(events, numbers, strict=True) if number}


def compile_plan(usecase: UseCase) -> FeaturePlan:
    """The plan of a use case; the same declaration always gives the same plan."""
    views = []
    for entity in usecase.entities:
        features = tuple(feature for feature in usecase.windowed if feature.entity == entity)
        if features:
            views.append(view_of(f"{usecase.name}_{entity.name}_tiles", entity, features))
    return FeaturePlan(usecase, tuple(views))


def view_of(name: str, entity: Entity, features: tuple[WindowedFeature, ...]) -> TileView:
    """What is kept of one entity so that these features of it can be read."""
    lanes = _lanes(features)
    exact_us = [f.reach_us for f in features if f.step_us == EXACT_US]
    finest_us = lanes[1].step_us if len(lanes) > 1 else 0
    seconds = Lane(SECOND_US, max([*exact_us, finest_us]), lanes[0].aggregates)
    sources = tuple(dict.fromkeys(source_of(feature) for feature in features))
    return TileView(name, entity, sources, (seconds, *lanes[1:]), features)


def _lanes(features: tuple[WindowedFeature, ...]) -> tuple[Lane, ...]:
    coarsest = max(feature.step_us for feature in features)
    steps = [SECOND_US, *(step for step in TILE_STEPS_US if step <= coarsest)]
    lanes = []
    for index, step_us in enumerate(steps):
        readers = [f for f in features if f.step_us >= step_us or index == 0]
        own_us = [f.reach_us for f in readers if f.step_us == step_us]
        # The head of a window in coarser tiles is read from these where it is cut.
        coarser_us = steps[index + 1 : index + 2]
        lanes.append(Lane(step_us, max([*own_us, *coarser_us], default=0), _aggregates(readers)))
    return tuple(lanes)


def _aggregates(features: list[WindowedFeature]) -> tuple[Aggregate, ...]:
    depths: dict[tuple[Source, Part, int], int] = {}
    for feature in features:
        for part in _PARTS[feature.statistic]:
            key = (source_of(feature), part, feature.half_life_us)
            # One more than is asked for: the request's own event is left out where it is among them.
            depth = feature.rank + 1 if part in (Part.FIRST, Part.LAST) else 0
            depths[key] = max(depths.get(key, 0), depth)
    return tuple(Aggregate(source, part, depth, half_life) for (source, part, half_life), depth in depths.items())
