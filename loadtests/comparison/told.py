"""A comparison as lines in a terminal."""

from __future__ import annotations

from math import isfinite

from infra.local.console import table
from loadtests.comparison.compared import Comparison, Row
from loadtests.report.formats import amount


def told(comparison: Comparison) -> str:
    """One line a measure and stretch, and what has been left out."""
    header = ("stretch", "measure", "A", "B", "B against A", "95 % interval", "")
    rows = [
        (
            row.stretch,
            row.measure,
            amount(row.measure, row.a),
            amount(row.measure, row.b),
            change(row, row.interval.estimate),
            f"{change(row, row.interval.low)} to {change(row, row.interval.high)}",
            row.verdict,
        )
        for row in comparison.rows
    ]
    lines = [table(header, rows), "", f"{comparison.method}."]
    lines += [f"left out: {doubt}" for doubt in comparison.doubts]
    if len(comparison.rows) > 1:
        lines.append(f"Of {len(comparison.rows)} such intervals about one in twenty misses the truth by chance alone.")
    return "\n".join(lines)


def change(row: Row, value: float) -> str:
    """A ratio as percent more or less; a difference of shares in percentage points."""
    if not isfinite(value):
        return "–"
    return f"{(value - 1) * 100:+.1f} %" if row.is_ratio else f"{value * 100:+.2f} pp"
