"""Where snapshots of feature history lie, and how they are read: the same for Feast and for our own join."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from flywheel.adapters.point_in_time import HistorySource
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel.plan import FeaturePlan, TileView

NEVER_EXPIRES = timedelta(0)
"""As Feast writes it. Every request event has a row of its own moment, so an old value is never taken for a new one."""

EVENT_ID = "event_id"


def snapshot_directory(settings: PlatformSettings, plan: FeaturePlan, view: TileView, snapshot_id: str) -> Path:
    """The directory of one view's Parquet files; `*` for any snapshot."""
    return settings.history_dir.absolute() / plan.usecase.name / view.history_name / f"snapshot={snapshot_id}"


def history_sources(settings: PlatformSettings, plan: FeaturePlan, snapshot_id: str) -> tuple[HistorySource, ...]:
    """One source for each view of the plan, of that snapshot."""
    return tuple(
        HistorySource(
            name=view.history_name,
            directory=snapshot_directory(settings, plan, view, snapshot_id),
            keys=tuple(zip(view.entity.request_keys, view.entity.keys, strict=True)),
            features=tuple(feature.name for feature in view.features),
            ttl_us=NEVER_EXPIRES // timedelta(microseconds=1) or None,
            own_id=EVENT_ID,
        )
        for view in plan.views
    )
