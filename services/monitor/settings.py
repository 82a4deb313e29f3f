"""Settings of the monitor."""

from __future__ import annotations

from pydantic import Field

from flywheel.contracts.settings import PlatformSettings


class MonitorSettings(PlatformSettings):
    """What the monitor keeps, when it alarms and when it asks for a new model; `FLYWHEEL_MONITOR_<NAME>` overrides."""

    monitor_window: int = Field(default=3_000, ge=10)
    """Newest decisions compared with the training reference, and one step of the drift alarm."""
    monitor_window_least: int = Field(default=500, ge=1)
    """Below so many decisions nothing is said about drift."""
    monitor_alarm_windows: int = Field(default=3, ge=1)
    """Consecutive windows that must exceed before a variable counts as drifted."""
    monitor_capacity: int = Field(default=200_000, ge=1)
    """Decisions kept to be joined with their labels; more than are made in the time a label takes to mature."""
    monitor_refresh_s: float = Field(default=2.0, gt=0)
    """Between two views of what is going on."""
    monitor_quality_refresh_s: float = Field(default=10.0, ge=0)
    """Between two measurements of matured quality, which read the whole ledger."""
    monitor_catalogue_refresh_s: float = Field(default=5.0, ge=0)
    """Between two views of the feature catalogue."""

    monitor_retrains: bool = True
    """Whether drift or a loss of quality asks for a new model."""
    monitor_retrain_every_minutes: float = Field(default=30.0, gt=0)
    """At most one request in this time."""
    monitor_auc_drop: float = Field(default=0.05, gt=0, lt=1)
    """A matured AUC that far below the one the champion was published with, beyond sampling error, is a loss."""

    monitor_leads_canaries: bool = True
    """Whether a canary takes its next step, or goes, by what this monitor sees."""
