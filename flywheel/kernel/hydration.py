"""Turns subjects and what the online store answered into rows of feature values, each source with an honest status.

Subjects that are decided together share a question, and one matrix holds the features of all their rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.decisions import FeatureStatus, Step
from flywheel.contracts.events import Event
from flywheel.kernel.attributes import AttributeRead
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.durations import parse_duration
from flywheel.kernel.edge import unpack_edge
from flywheel.kernel.features import Entity
from flywheel.kernel.fold import Reading
from flywheel.kernel.own_row import OwnRow
from flywheel.kernel.plan import SLACK_US, TileView, compile_plan
from flywheel.kernel.ports import Answer, Question, Stored, StoreProgress, ViewKey
from flywheel.kernel.rows import Cells, event_hash, no_rows
from flywheel.kernel.state import EntityState, ForeignState
from flywheel.kernel.stored import StoredColumns, StoredRequest
from flywheel.kernel.vector import RowLayout

Row = NDArray[np.float32]

UNKNOWN_LAG_MS = -1.0

STATUSES = (FeatureStatus.FRESH, FeatureStatus.STALE, FeatureStatus.MISSING, FeatureStatus.UNAVAILABLE)
"""By their codes, which are those of `StoredStatus`."""
FRESH, STALE, MISSING, UNAVAILABLE = range(4)

_NOTHING = Stored()
_ROWS = attrgetter("rows")


class Subject:
    """What one request is about: its event, or one row for each candidate that stands in one field of the event."""

    __slots__ = ("at_us", "candidates", "event", "rows")

    def __init__(self, event: Event, candidates: Sequence[str] = ()) -> None:
        self.event = event
        self.at_us = event.event_time_us
        self.candidates = candidates
        self.rows = len(candidates) or 1

    def events(self, field: str) -> Iterator[Event]:
        """The event of each row, the candidate in that field."""
        if not self.candidates:
            yield self.event
        for candidate in self.candidates:
            yield self.event.model_copy(update={field: candidate})


@dataclass(slots=True)
class Hydrated:
    """What is known of all rows of some subjects, in their order."""

    layout: RowLayout
    rows: Row
    """The model's input, shape (rows, features). Features of an unavailable source have their declared defaults, and
    those of a stale one where the ladder says so."""
    status: NDArray[np.int8]
    """Shape (rows, sources), codes of `STATUSES`: of windows by entity, then of attributes by table."""
    age_ms: NDArray[np.float64]
    """Shape (rows, tables): how old the entity's newest load is at the subject's time; NaN where there is none."""
    lag_ms: float
    """How far windows are behind the accepted events."""
    is_fresh: bool = False
    """Whether it is known that every source of every row is fresh: most often so, and then nobody need look."""
    foreign: Sequence[str] = ()
    """Why states were refused, one sentence each."""
    _finite: bool | None = None

    @property
    def finite(self) -> bool:
        """Whether every value of every row is a finite number."""
        if self._finite is None:
            self._finite = bool(np.isfinite(self.rows).all())
        return self._finite

    def known(self, row: int) -> NDArray[np.bool_] | None:
        """Which features of the row stand on what was read, shape (features,); None for all."""
        gone = self.status[row] == UNAVAILABLE
        return ~(self.layout.needs @ gone) if gone.any() else None

    def statuses(self, row: int) -> dict[str, FeatureStatus]:
        """The row's statuses by source."""
        if self.is_fresh:
            return dict.fromkeys(self.layout.sources, FeatureStatus.FRESH)
        return {name: STATUSES[code] for name, code in zip(self.layout.sources, self.status[row].tolist(), strict=True)}

    def ages_ms(self, row: int) -> dict[str, float]:
        """The ages of the row's loads by table, only where there is one."""
        ages = zip(self.layout.tables, self.age_ms[row].tolist(), strict=True)
        if self.is_fresh:
            return dict(ages)
        return {name: age_ms for name, age_ms in ages if age_ms == age_ms}


class Hydrator:
    """The read plan of a use case: what to ask for, and how to make features of the answer.

    `candidate`: the field in which the rows of a subject differ, if it has several.
    """

    def __init__(self, usecase: UseCase, candidate: str = "") -> None:
        self._candidate = candidate
        self._views = [_View(view, usecase, candidate) for view in compile_plan(usecase).views]
        self._some_view_varies = any(view.varies for view in self._views)
        self._freshness_us = parse_duration(usecase.freshness)
        self._stale_is_gone = usecase.ladder.stale is Step.DEFAULTS
        self.layout = RowLayout(usecase, candidate)
        self._reads = [_Read(read, candidate, self.layout) for read in usecase.attribute_reads]

    def question(self, subjects: Sequence[Subject]) -> Question:
        """What to ask the online store about all of them."""
        events = self._events(subjects)
        keys: list[ViewKey] = []
        for view in self._views:
            keys += view.keys(subjects, events)
        return Question(keys, [read.request(subjects) for read in self._reads])

    def unavailable(self, subjects: Sequence[Subject]) -> Hydrated:
        """What is known when the store did not answer: nothing."""
        rows, layout = sum(subject.rows for subject in subjects), self.layout
        status = np.full((rows, len(layout.sources)), UNAVAILABLE, np.int8)
        values = layout.blank(rows)
        layout.put_defaults(values, status == UNAVAILABLE)
        ages = np.full((rows, len(layout.tables)), np.nan)
        return Hydrated(layout, layout.finished(values, subjects), status, ages, UNKNOWN_LAG_MS)

    def hydrate(self, subjects: Sequence[Subject], answer: Answer, now_us: int) -> Hydrated:
        """Features of the subjects at their own times from the answer to their question."""
        layout, foreign = self.layout, list[str]()
        rows = sum(map(_ROWS, subjects))
        each = None if rows == len(subjects) else np.repeat(np.arange(len(subjects)), list(map(_ROWS, subjects)))
        values = layout.blank(rows)
        status = np.zeros((rows, len(layout.sources)), np.int8)
        ages_ms = np.empty((rows, len(layout.tables)))
        lag_us = None if answer.progress is None else max(now_us - answer.progress.visible_until_us, 0)
        if not self._views:
            # Without windows there is nothing that could be behind.
            lag_us = 0
        else:
            present = STALE if lag_us is None or lag_us > self._freshness_us else FRESH
            self._put_windows(subjects, answer, present, each, (values, status, foreign))
        is_current = not self._views
        for read, columns in zip(self._reads, answer.attributes, strict=True):
            self._put_attributes(read, columns, None if read.varies else each, (values, status, ages_ms, foreign))
            is_current = is_current and columns.is_current
        is_fresh = is_current or not np.count_nonzero(status)
        if not is_fresh:
            gone = status == UNAVAILABLE
            layout.put_defaults(values, gone | (status == STALE) if self._stale_is_gone else gone)
        lag_ms = UNKNOWN_LAG_MS if lag_us is None else lag_us / 1000
        return Hydrated(layout, layout.finished(values, subjects), status, ages_ms, lag_ms, is_fresh, foreign)

    def _events(self, subjects: Sequence[Subject]) -> Sequence[Event]:
        """The event of each row, where any window depends on it."""
        if not self._some_view_varies:
            return ()
        return [event for subject in subjects for event in subject.events(self._candidate)]

    def _put_windows(
        self,
        subjects: Sequence[Subject],
        answer: Answer,
        present: int,
        each: NDArray[np.intp] | None,
        into: tuple[NDArray[np.floating[Any]], NDArray[np.int8], list[str]],
    ) -> None:
        values, status, foreign = into
        stored, events = iter(answer.stored), self._events(subjects)
        alone = [subject.event for subject in subjects]
        for source, view in enumerate(self._views):
            found, codes = view.folded(events if view.varies else alone, stored, answer.progress, present, foreign)
            spread = each if not view.varies and each is not None else slice(None)
            values[:, self.layout.windows[source]] = found[spread]
            status[:, source] = codes[spread]

    def _put_attributes(
        self,
        read: _Read,
        columns: StoredColumns,
        each: NDArray[np.intp] | None,
        into: tuple[NDArray[np.floating[Any]], NDArray[np.int8], NDArray[np.float64], list[str]],
    ) -> None:
        values, status, ages_ms, foreign = into
        found, codes, ages, is_current = columns
        if not is_current:
            foreign += read.refused(codes)
            later = ages < 0
            if np.count_nonzero(later):
                # Loaded for later: training, too, knows nothing of it yet.
                found, codes = read.without(later, found), np.where(later, STALE, codes)
        if each is not None:
            found, codes, ages = found[each], codes[each], ages[each]
        for number, (place, columns_of) in enumerate(read.into):
            values[:, columns_of] = found[:, read.columns[number]]
            ages_ms[:, place] = ages[:, number]
            if not is_current:
                status[:, len(self._views) + place] = codes[:, number]


class _View:
    """The windows of one entity."""

    def __init__(self, view: TileView, usecase: UseCase, candidate: str) -> None:
        request = usecase.request
        self._lateness_us = parse_duration(usecase.lateness)
        self._is_played = bool(usecase.world)
        self.name = view.name
        self._view = view
        self._reading = Reading(view)
        self._own = OwnRow(view, request)
        self._entity: Entity = view.entity
        touched = {*view.entity.request_keys, *(name for event in view.events for name in view.fields_of(event))}
        self.varies = bool(candidate) and candidate in touched
        """Whether it is another for each row of a subject."""

    def keys(self, subjects: Sequence[Subject], events: Sequence[Event]) -> list[ViewKey]:
        """Keys of its entities: one a row where it varies, else one a subject."""
        about = events if self.varies else [subject.event for subject in subjects]
        return [ViewKey(self.name, self._entity.id_in(event)) for event in about]

    def folded(
        self,
        events: Sequence[Event],
        stored: Iterator[Stored],
        progress: StoreProgress | None,
        present: int,
        foreign: list[str],
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Values, shape (events, features), 0 where they are unavailable, and status codes, shape (events,)."""
        # Whatever memory holds could be too large for the model's input.
        values, codes = np.zeros((len(events), len(self._view.features))), np.empty(len(events), np.int8)
        told_us = None if progress is None else progress.newest_event_us
        for row, (event, found) in enumerate(zip(events, stored, strict=False)):
            if found == _NOTHING and progress is None:
                # Nobody knows what the store should hold: nothing there is no sign of somebody new.
                codes[row] = UNAVAILABLE
                continue
            try:
                values[row], trusted = self._values(event, found)
            except ForeignState as error:
                codes[row] = UNAVAILABLE
                foreign.append(str(error))
                continue
            codes[row] = MISSING if found == _NOTHING else present if trusted else STALE
            if told_us is not None and self._is_beside(event.event_time_us, told_us, known=found != _NOTHING):
                codes[row] = STALE
        return values, codes

    def _is_beside(self, at_us: int, present_us: int, *, known: bool) -> bool:
        """Whether the store cannot tell of that moment, as the stream's present is another.

        Of what was so long ago it has forgotten those who came no more; that it knows nobody is no sign then. A played
        world has a clock of its own, and what is ahead of that no event can have been told of.
        """
        if at_us < present_us - self._lateness_us:
            return not known
        return self._is_played and at_us > present_us + self._lateness_us

    def _values(self, event: Event, found: Stored) -> tuple[NDArray[np.float64], bool]:
        """The view's values, and whether they are all that the declaration promises."""
        state, arrived = opened(self._view, found)
        at_us, tie = event.event_time_us, event_hash(event.event_name, event.event_id)
        own = self._own.of(event, self._entity.id_in(event), tie)
        values = self._reading.values(state, arrived, at_us, own=own, own_tie=tie)
        # So far behind the entity's newest event, what its windows cover may be gone.
        return values, not state.lost and at_us >= state.newest_us - SLACK_US


class _Read:
    """The tables of one entity."""

    def __init__(self, read: AttributeRead, candidate: str, layout: RowLayout) -> None:
        self._tables = read.tables
        self._names = tuple(zip(read.entity.keys, read.entity.request_keys, strict=True))
        self._candidate = candidate
        self.varies = bool(candidate) and candidate in read.entity.request_keys
        self.columns: list[slice] = []
        """Where the values of each table stand among what is stored; a load's moment follows on them."""
        self.into = [(layout.table_places[table.name], layout.attributes[table.name]) for table in read.tables]
        """Where each table stands among the tables, and its features in a row."""
        self._defaults = [np.array([feature.default for feature in table.features]) for table in read.tables]
        start = 0
        for table in read.tables:
            self.columns.append(slice(start, start + len(table.features)))
            start += len(table.features) + 1

    def request(self, subjects: Sequence[Subject]) -> StoredRequest:
        """Asks about each subject's entity, or each row's, as of the subject's own time."""
        if len(subjects) == 1 and not self.varies:
            (subject,) = subjects
            return StoredRequest({key: [str(getattr(subject.event, name))] for key, name in self._names}, subject.at_us)
        times_us = [subject.at_us for subject in subjects]
        repeats = [subject.rows for subject in subjects] if self.varies else 1
        keys = {key: self._column(subjects, name) for key, name in self._names}
        return StoredRequest(keys, np.repeat(np.array(times_us, np.int64), repeats))

    def without(self, gone: NDArray[np.bool_], found: NDArray[np.float64]) -> NDArray[np.float64]:
        """What is stored, the tables that are gone, shape (entities, tables), with their defaults."""
        values = found.copy()
        for number, columns in enumerate(self.columns):
            values[gone[:, number], columns] = self._defaults[number]
        return values

    def refused(self, codes: NDArray[np.int8]) -> list[str]:
        """A sentence for each row of a table that is no attribute."""
        return [
            f"what is stored of {self._tables[number].name} is no attribute"
            for number in np.nonzero(codes == UNAVAILABLE)[1].tolist()
        ]

    def _column(self, subjects: Sequence[Subject], name: str) -> list[str]:
        if not self.varies:
            return [str(getattr(subject.event, name)) for subject in subjects]
        return [
            text
            for subject in subjects
            for text in (
                map(str, subject.candidates or [getattr(subject.event, name)])
                if name == self._candidate
                else [str(getattr(subject.event, name))] * subject.rows
            )
        ]


def opened(view: TileView, stored: Stored) -> tuple[EntityState, Cells]:
    """The state and the events of the edge. Raises ForeignState."""
    state = EntityState.empty(view) if stored.state is None else EntityState.unpack(view, stored.state)
    return state, no_rows(view) if stored.edge is None else unpack_edge(view, stored.edge)
