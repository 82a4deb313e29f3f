"""One HTML file about a comparison, which needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby
from math import isfinite

from loadtests.comparison.compared import Comparison, Row
from loadtests.comparison.told import change
from loadtests.report.elements import facts, panel, table
from loadtests.report.formats import amount
from loadtests.report.page import document
from loadtests.result import Result

_WIDTH, _HEIGHT = 240, 26
_CLASSES = {"better": "passed", "worse": "failed", "no difference shown": "muted", "too few to say": "muted"}


def page(comparison: Comparison) -> str:
    """The whole document."""
    a, b = comparison.a[0], comparison.b[0]
    panels = [_of_stretch(name, list(rows)) for name, rows in groupby(comparison.rows, key=lambda row: row.stretch)]
    if comparison.doubts:
        doubts = "".join(f"<p>{escape(doubt)}</p>" for doubt in comparison.doubts)
        panels.append(panel("Left out", "Runs that say nothing, or were asked something else.", doubts, True))
    panels += [_side("A", comparison.a), _side("B", comparison.b)]
    head = (
        f"<p class='about'>{escape(a.title)} of {escape(a.usecase)}: B ({escape(b.commit[:12])}) against A "
        f"({escape(a.commit[:12])}).</p><p class='facts'>{escape(comparison.method)}. "
        f"About one in twenty of the {len(comparison.rows)} intervals misses the truth by chance alone.</p>"
    )
    return document("B against A", head + f'<div class="grid-of-panels">{"".join(panels)}</div>')


def _of_stretch(name: str, rows: Sequence[Row]) -> str:
    reach = {is_ratio: _reach([row for row in rows if row.is_ratio is is_ratio]) for is_ratio in (True, False)}
    cells = [
        (
            f"<code>{escape(row.measure)}</code>",
            amount(row.measure, row.a),
            amount(row.measure, row.b),
            change(row, row.interval.estimate),
            _forest(row, reach[row.is_ratio]),
            f"{change(row, row.interval.low)} to {change(row, row.interval.high)}",
            f'<span class="{_CLASSES[row.verdict]}">{row.verdict}</span>',
        )
        for row in rows
    ]
    heads = ("measure", "A", "B", "B against A", "", "95 % interval", "")
    return panel(escape(name), "The line in the middle is no difference.", table(heads, cells, {1, 2, 3}), True)


def _reach(rows: Sequence[Row]) -> float:
    ends = [abs(value - (1 if row.is_ratio else 0)) for row in rows for value in (row.interval.low, row.interval.high)]
    return max((value for value in ends if isfinite(value)), default=0.0) or 1.0


def _forest(row: Row, reach: float) -> str:
    nothing = 1.0 if row.is_ratio else 0.0

    def at(value: float) -> float:
        return _WIDTH / 2 + (value - nothing) / reach * (_WIDTH / 2 - 8)

    estimate, low, high = row.interval.estimate, row.interval.low, row.interval.high
    middle = _HEIGHT / 2
    parts = [f'<line class="grid" x1="{_WIDTH / 2}" x2="{_WIDTH / 2}" y1="0" y2="{_HEIGHT}"/>']
    colour = {"better": "green", "worse": "red"}.get(row.verdict, "grey")
    if isfinite(low) and isfinite(high):
        parts.append(
            f'<polyline class="line {colour}" points="{at(low):.1f},{middle} {at(high):.1f},{middle}"/>'
            f'<circle class="dot {colour}" cx="{at(estimate):.1f}" cy="{middle}" r="4"/>'
        )
    label = f"{row.measure}: {change(row, low)} to {change(row, high)}"
    return (
        f'<svg class="forest" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _side(name: str, results: Sequence[Result]) -> str:
    first = results[0]
    pairs = [
        ("Commit", first.commit),
        ("Began", ", ".join(each.began_at for each in results)),
        ("Capacity", f"{first.capacity_per_s:,.0f}/s"),
        ("Machine", first.machine),
        *first.settings.items(),
    ]
    return panel(name, f"{len(results)} run{'s' if len(results) > 1 else ''}.", facts(pairs))
