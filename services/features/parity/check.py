"""Compares sampled decisions with what the archive says about their moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from flywheel.adapters.duckdb_lake import Archived, ArchivedEvents
from flywheel.contracts.decisions import DecisionLogged, FeatureStatus
from flywheel.contracts.events import to_us
from flywheel.contracts.parity import MismatchExample
from flywheel.kernel.erasure import Erasures
from flywheel.kernel.plan import FeaturePlan, TileView
from flywheel.kernel.ports import ErasureLog
from flywheel.kernel.recomputation import recompute, sight_of
from flywheel.kernel.rows import MARK, TIME, Cells, event_hash, no_rows
from flywheel.kernel.tally import Tally
from flywheel.kernel.tiles import NO_TIME
from services.features.parity.attributes import AttributeCheck

UNAVAILABLE, UNKNOWN_LAG, NOT_ARCHIVED = "features_unavailable", "lag_not_known", "event_not_archived"
"""Why nothing of a decision is compared: it had no features; nobody knows how far these were behind; the event that
it is about, with that time, is not in the archive."""

OpenArchive = Callable[[], AbstractContextManager[ArchivedEvents]]

_NEVER_US = 2**62


class ParityCheck:
    """Recomputes the windowed features of decisions and looks up their attributes. `margin_us` is that of
    `recomputation.sight_of`.

    Of whoever was erased nothing is decided upon, nor about others as far back as their counts may still hold them.
    """

    def __init__(
        self,
        plan: FeaturePlan,
        open_archive: OpenArchive,
        attributes: AttributeCheck,
        erasures: ErasureLog,
        margin_us: int,
    ) -> None:
        self._plan = plan
        self._open_archive = open_archive
        self._attributes = attributes
        self._erasures = erasures
        self._margin_us = margin_us

    def examine(self, decisions: Sequence[DecisionLogged]) -> Tally:
        """What became of the decisions, all of which must have been made before what the archive holds ends.

        Raises Unavailable.
        """
        tally = Tally()
        with self._open_archive() as archive:
            moments_us = {logged.event_id: to_us(logged.event_time) for logged in decisions}
            usecase = self._plan.usecase
            archived = archive.requests(usecase.request, usecase.entities, moments_us)
            usable = [logged for logged in decisions if self._is_usable(logged, archived, tally)]
            times_us = {to_us(logged.event_time) for logged in usable}
            entities = {
                view: {archived[logged.event_id].entity_ids[view.entity.name] for logged in usable}
                for view in self._plan.views
            }
            events = {view: archive.about(view, ids, times_us) for view, ids in entities.items()}
        loads = self._attributes.read(archived, usable)
        # Asked for after the reading: an erasure is announced before anything is taken out of the archive.
        erasures = self._erasures.current()
        kinds = [entity.name for entity in self._plan.usecase.entities]
        for view in self._plan.views:
            clear_from_us = _clear_from_us(view, events[view], kinds, erasures)
            for logged in usable:
                entity_id = archived[logged.event_id].entity_ids[view.entity.name]
                erased = erasures.covers(view.entity.name, entity_id, 0)
                self._compare(view, logged, events[view].get(entity_id), _NEVER_US if erased else clear_from_us, tally)
        self._attributes.compare(archived, usable, loads, erasures, tally)
        return tally

    def _is_usable(self, logged: DecisionLogged, archived: Mapping[str, Archived], tally: Tally) -> bool:
        why = ""
        if all(status is FeatureStatus.UNAVAILABLE for status in logged.feature_status.values()):
            why = UNAVAILABLE
        elif sight_of(logged, self._margin_us) is None:
            why = UNKNOWN_LAG
        elif logged.event_id not in archived or archived[logged.event_id].event_time_us != to_us(logged.event_time):
            why = NOT_ARCHIVED
        if why:
            tally.skipped[why] += 1
        else:
            tally.decisions += 1
        return not why

    def _compare(
        self, view: TileView, logged: DecisionLogged, events: Cells | None, clear_from_us: int, tally: Tally
    ) -> None:
        sight = sight_of(logged, self._margin_us)
        status = logged.feature_status.get(view.entity.name, FeatureStatus.UNAVAILABLE)
        if sight is None or status is FeatureStatus.UNAVAILABLE:
            return
        tie = event_hash(self._plan.usecase.request.event_name, logged.event_id)
        rows = no_rows(view) if events is None else events
        found = recompute(view, rows, to_us(logged.event_time), tie, replace(sight, clear_from_us=clear_from_us))
        served = dict(zip(logged.feature_names, logged.features, strict=True))
        for place, feature in enumerate(view.features):
            if feature.name not in served:
                continue
            if not found.decided[place]:
                tally.undecidable += 1
                continue
            example = MismatchExample(
                event_id=logged.event_id,
                decided_at=logged.decided_at,
                online=served[feature.name],
                offline=float(found.values[place]),
            )
            tally.compare(feature.name, example, stale=status is FeatureStatus.STALE)


def _clear_from_us(view: TileView, events: Mapping[str, Cells], kinds: Iterable[str], erasures: Erasures) -> int:
    """Event time from which on the archive still has every event that is in the view's counts.

    Events of persons of another kind are taken out of the archive, but not out of the counts of others. How far event
    time had come at the last erasure is told by the view's own events.
    """
    erased_us = [until for kind in kinds if kind != view.entity.name for until in erasures.of(kind).values()]
    if not erased_us:
        return NO_TIME
    last_us = max(erased_us)
    before = [rows[rows[:, MARK] <= last_us, TIME] for rows in events.values()]
    return max((int(times.max()) + 1 for times in before if len(times)), default=NO_TIME)
