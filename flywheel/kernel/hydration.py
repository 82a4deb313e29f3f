"""Turns a subject and what the online store answered into feature values, each entity with an honest status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.decisions import FeatureStatus
from flywheel.contracts.events import Event
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.durations import parse_duration
from flywheel.kernel.edge import unpack_edge
from flywheel.kernel.features import Column
from flywheel.kernel.fields import REQUEST
from flywheel.kernel.fold import Reading
from flywheel.kernel.plan import SLACK_US, TileView, compile_plan
from flywheel.kernel.ports import Answer, Question, Stored, ViewKey
from flywheel.kernel.rows import Cells, event_hash, no_rows, rows_about
from flywheel.kernel.state import EntityState, ForeignState
from flywheel.kernel.stored import StoredRequest
from flywheel.kernel.vector import assemble, request_columns

Row = NDArray[np.float32]

UNKNOWN_LAG_MS = -1.0

_NOTHING = Stored()


@dataclass(frozen=True)
class Subject:
    """A request event and what is read off it once."""

    event: Event
    numbers: dict[str, float]
    """Its numeric fields by name, and `event_time_us`."""
    keys: tuple[ViewKey, ...]
    own: tuple[Cells, ...]
    """What the event adds to each entity, in the order of the keys."""
    tie: int
    """The event's id hash."""
    attributes: tuple[StoredRequest, ...] = ()

    @property
    def question(self) -> Question:
        """What to ask the online store."""
        return Question(self.keys, self.attributes)


@dataclass(frozen=True)
class Hydrated:
    """What the online store knows of a subject's entities."""

    values: Mapping[str, float]
    """Windowed features and attributes, those that are unavailable left out."""
    status: dict[str, FeatureStatus]
    """Of windows by entity, of attributes by table."""
    lag_ms: float
    """How far windows are behind the accepted events."""
    age_ms: dict[str, float] = field(default_factory=dict)
    """By table, how old its entity's newest load is at the subject's time; only where there is one."""
    foreign: tuple[str, ...] = ()
    """Why states were refused, one sentence each."""

    @property
    def complete(self) -> bool:
        return FeatureStatus.UNAVAILABLE not in self.status.values()


class Hydrator:
    """The read plan of a use case: which rows to ask for, and how to make features of the answer."""

    def __init__(self, usecase: UseCase) -> None:
        self._usecase = usecase
        self._views = compile_plan(usecase).views
        self._readings = tuple(Reading(view) for view in self._views)
        self._freshness_us = parse_duration(usecase.freshness)
        self._reads = usecase.attribute_reads
        sources = (*(view.entity.name for view in self._views), *(table.name for table in usecase.attribute_tables))
        self._nothing = Hydrated({}, dict.fromkeys(sources, FeatureStatus.UNAVAILABLE), UNKNOWN_LAG_MS)

    def subject(self, event: Event) -> Subject:
        """The subject with the rows to read for it, in the order of the plan's views."""
        numbers = {name.removeprefix(REQUEST): value for name, value in request_columns(event).items()}
        keys = tuple(ViewKey(view.name, view.entity.id_in(event)) for view in self._views)
        tie = event_hash(event.event_name, event.event_id)
        own = tuple(rows_about(view, event, key.entity_id, tie) for view, key in zip(self._views, keys, strict=True))
        return Subject(event, numbers, keys, own, tie, tuple(read.request(event) for read in self._reads))

    def unavailable(self) -> Hydrated:
        """What is known when the store did not answer: nothing."""
        return self._nothing

    def hydrate(self, subject: Subject, answer: Answer, now_us: int) -> Hydrated:
        """Features of the subject at its own time from the answer to its question."""
        progress = answer.progress
        lag_us = None if progress is None else max(now_us - progress.visible_until_us, 0)
        present = FeatureStatus.FRESH
        if lag_us is None or lag_us > self._freshness_us:
            present = FeatureStatus.STALE
        values: dict[str, float] = {}
        status: dict[str, FeatureStatus] = {}
        foreign: list[str] = []
        for place, (view, found) in enumerate(zip(self._views, answer.stored, strict=True)):
            name = view.entity.name
            try:
                folded, trusted = self._folded(place, found, subject)
            except ForeignState as error:
                status[name] = FeatureStatus.UNAVAILABLE
                foreign.append(str(error))
                continue
            if found == _NOTHING and progress is None:
                # Nobody knows what the store should hold: nothing there is no sign of somebody new.
                status[name] = FeatureStatus.UNAVAILABLE
                continue
            status[name] = FeatureStatus.MISSING if found == _NOTHING else present if trusted else FeatureStatus.STALE
            values.update(zip((feature.name for feature in view.features), folded, strict=True))
        age_ms: dict[str, float] = {}
        for read, columns in zip(self._reads, answer.attributes, strict=True):
            for loaded in read.loaded(columns):
                status[loaded.table.name] = loaded.status
                if loaded.status is FeatureStatus.UNAVAILABLE:
                    foreign.append(f"what is stored of {loaded.table.name} is no attribute")
                    continue
                values.update(loaded.values)
                if loaded.status is not FeatureStatus.MISSING:
                    age_ms[loaded.table.name] = loaded.age_ms
        lag_ms = UNKNOWN_LAG_MS if lag_us is None else lag_us / 1000
        return Hydrated(values, status, lag_ms, age_ms, tuple(foreign))

    def _folded(self, place: int, stored: Stored, subject: Subject) -> tuple[list[float], bool]:
        """The view's values, and whether they are all that the declaration promises."""
        state, arrived = opened(self._views[place], stored)
        at_us = subject.event.event_time_us
        found = self._readings[place].values(state, arrived, at_us, own=subject.own[place], own_tie=subject.tie)
        # So far behind the entity's newest event, what its windows cover may be gone.
        trusted = not state.lost and at_us >= state.newest_us - SLACK_US
        return [float(value) for value in found], trusted

    def columns(self, subject: Subject, hydrated: Hydrated) -> dict[str, Column]:
        """Inputs of `assemble`, each of shape (1,)."""
        known = {**{REQUEST + name: value for name, value in subject.numbers.items()}, **hydrated.values}
        row = np.array(list(known.values()), np.float64)
        return {name: row[at : at + 1] for at, name in enumerate(known)}

    def row(self, columns: Mapping[str, Column]) -> Row:
        """The model's input, shape (1, features)."""
        return assemble(self._usecase, columns)

    def known(self, columns: Mapping[str, Column]) -> dict[str, float]:
        """Features that can be had from these columns alone, in the declared order."""
        found = dict(columns)
        for feature in self._usecase.at_request:
            if all(name in found for name in feature.inputs):
                found[feature.name] = feature.compute(found)
        return {name: float(np.float32(found[name][0])) for name in self._usecase.feature_names if name in found}


def opened(view: TileView, stored: Stored) -> tuple[EntityState, Cells]:
    """The state and the events of the edge. Raises ForeignState."""
    state = EntityState.empty(view) if stored.state is None else EntityState.unpack(view, stored.state)
    return state, no_rows(view) if stored.edge is None else unpack_edge(view, stored.edge)
