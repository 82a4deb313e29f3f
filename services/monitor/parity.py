"""How features as served compare with recomputed ones, for the console."""

from __future__ import annotations

from flywheel.contracts.parity import FeatureMismatches, ParityReport
from flywheel.kernel.gates import Demands
from services.monitor.state import Parity, ParityFeature


def parity_of(report: ParityReport | None) -> Parity | None:
    """The newest report as the console shows it; None before the first."""
    if report is None:
        return None
    return Parity(
        since=report.since,
        until=report.until,
        decisions=report.decisions,
        values=report.values,
        mismatches=report.mismatches,
        mismatched_share=report.mismatched_share,
        tolerated_share=Demands().mismatched_share,
        undecidable=report.undecidable,
        stale_values=report.stale_values,
        stale_mismatches=report.stale_mismatches,
        skipped=report.skipped,
        features=tuple(_feature(found) for found in report.mismatched),
    )


def _feature(found: FeatureMismatches) -> ParityFeature:
    return ParityFeature(
        name=found.feature,
        mismatches=found.mismatches,
        worst_absolute=found.worst_absolute,
        worst_relative=found.worst_relative,
        event_id=found.example.event_id,
        decided_at=found.example.decided_at,
        online=found.example.online,
        offline=found.example.offline,
    )
