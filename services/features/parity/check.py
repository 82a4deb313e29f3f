"""Compares sampled decisions with what the archive says about their moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from flywheel.adapters.duckdb_lake import Archived, ArchivedEvents
from flywheel.contracts.decisions import DecisionLogged, FeatureStatus
from flywheel.contracts.events import to_us
from flywheel.contracts.parity import MismatchExample
from flywheel.kernel.plan import FeaturePlan, TileView
from flywheel.kernel.recomputation import recompute, sight_of
from flywheel.kernel.rows import Cells, event_hash, no_rows
from flywheel.kernel.tally import Tally

UNAVAILABLE, UNKNOWN_LAG, NOT_ARCHIVED = "features_unavailable", "lag_not_known", "event_not_archived"
"""Why nothing of a decision is compared: it had no features; nobody knows how far these were behind; the event that
it is about, with that time, is not in the archive."""

OpenArchive = Callable[[], AbstractContextManager[ArchivedEvents]]


class ParityCheck:
    """Recomputes the windowed features of decisions. `margin_us` is that of `recomputation.sight_of`."""

    def __init__(self, plan: FeaturePlan, open_archive: OpenArchive, margin_us: int) -> None:
        self._plan = plan
        self._open_archive = open_archive
        self._margin_us = margin_us

    def examine(self, decisions: Sequence[DecisionLogged]) -> Tally:
        """What became of the decisions, all of which must have been made before what the archive holds ends.

        Raises Unavailable.
        """
        tally = Tally()
        with self._open_archive() as archive:
            moments_us = {logged.event_id: to_us(logged.event_time) for logged in decisions}
            archived = archive.requests(self._plan.usecase.request, self._plan.views, moments_us)
            usable = [logged for logged in decisions if self._is_usable(logged, archived, tally)]
            values = sum(self._compare(view, archive, usable, archived, tally) for view in self._plan.views)
        assert values == tally.values + tally.stale_values + tally.undecidable
        return tally

    def _is_usable(self, logged: DecisionLogged, archived: dict[str, Archived], tally: Tally) -> bool:
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
        self,
        view: TileView,
        archive: ArchivedEvents,
        decisions: Sequence[DecisionLogged],
        archived: dict[str, Archived],
        tally: Tally,
    ) -> int:
        """How many values of the view there were."""
        mine: dict[str, list[DecisionLogged]] = defaultdict(list)
        for logged in decisions:
            status = logged.feature_status.get(view.entity.name, FeatureStatus.UNAVAILABLE)
            if status is not FeatureStatus.UNAVAILABLE:
                mine[archived[logged.event_id].entity_ids[view.entity.name]].append(logged)
        moments_us = [to_us(logged.event_time) for about in mine.values() for logged in about]
        events = archive.about(view, mine.keys(), moments_us) if mine else {}
        return sum(
            self._compare_one(view, logged, events.get(entity_id, no_rows(view)), tally)
            for entity_id, about in mine.items()
            for logged in about
        )

    def _compare_one(self, view: TileView, logged: DecisionLogged, events: Cells, tally: Tally) -> int:
        sight = sight_of(logged, self._margin_us)
        assert sight is not None  # the others are not usable
        tie = event_hash(self._plan.usecase.request.event_name, logged.event_id)
        found = recompute(view, events, to_us(logged.event_time), tie, sight)
        served = dict(zip(logged.feature_names, logged.features, strict=True))
        stale = logged.feature_status[view.entity.name] is FeatureStatus.STALE
        names = [(place, feature.name) for place, feature in enumerate(view.features) if feature.name in served]
        for place, name in names:
            if not found.decided[place]:
                tally.undecidable += 1
                continue
            example = MismatchExample(
                event_id=logged.event_id,
                decided_at=logged.decided_at,
                online=served[name],
                offline=float(found.values[place]),
            )
            tally.compare(name, example, stale=stale)
        return len(names)
