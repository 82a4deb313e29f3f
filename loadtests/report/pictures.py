"""The parts of the page that show it: latency and throughput by load, every percentile, and what came over time."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from loadtests.report import curves
from loadtests.report.elements import legend, panel
from loadtests.result import Result, StretchResult

_MOST_LINES = 5
_COLOURS = ("blue", "green", "violet", "amber", "red")


def on_load(result: Result) -> list[str]:
    """Against what was asked; the curves only where there were steps."""
    steps = sorted((each for each in result.stretches if each.on_curve), key=lambda each: each.asked_per_s)
    traffic = result.traffic[0]
    chosen = _telling(result, steps)
    found = []
    if steps:
        hollow = any(each.of(traffic.name).void for each in steps)
        key = legend([(text, colour) for _, text, colour in curves.PERCENTILES], strokes=True, hollow=hollow)
        found += [
            panel(
                "Latency against load",
                "Milliseconds that answers took from the moment they were due, against requests a second.",
                key + curves.curve(result, steps),
            ),
            panel(
                "What became of the requests",
                "Requests a second at each step, as a share of the capacity.",
                legend(curves.ENDS) + curves.throughput(result, steps),
            ),
        ]
    key = legend(
        [
            (curves.told_percentiles(stretch, traffic.name), colour)
            for stretch, colour in zip(chosen, _COLOURS, strict=False)
        ],
        strokes=True,
    )
    return [
        *found,
        panel(
            "Every percentile",
            f"Latency of answers to {escape(traffic.name)} in milliseconds; each mark on the axis is ten times rarer.",
            key + curves.by_percentile(traffic, chosen),
            # Beside it stands serving's admission, where that was seen.
            not result.gauges.at_s,
        ),
    ]


def over_time(result: Result) -> list[str]:
    """Second by second."""
    found = []
    for traffic in result.traffic:
        low, middle, high = traffic.request_bytes
        sizes = f"{low}–{high} bytes a request, {middle} in the middle"
        about = f"{escape(traffic.kind)} at {escape(traffic.address)}, {sizes}"
        found += [
            panel(
                f"{escape(traffic.name[:1].upper() + traffic.name[1:])} over time",
                f"Requests a second by how they ended. {about}.",
                legend(curves.ENDS) + curves.outcomes_over_time(result, traffic),
            ),
            panel(
                "and how long they took",
                "Milliseconds of each second's answers.",
                legend([("p50", "blue"), ("p99", "violet"), ("max", "amber")], strokes=True)
                + curves.latency_over_time(result, traffic),
            ),
        ]
    return found


def _telling(result: Result, steps: Sequence[StretchResult]) -> list[StretchResult]:
    """A few stretches that lie far from each other."""
    candidates = list(steps) or [each for each in result.stretches if each.measured]
    if len(candidates) <= _MOST_LINES:
        return candidates
    places = [round(place * (len(candidates) - 1) / (_MOST_LINES - 1)) for place in range(_MOST_LINES)]
    return [candidates[place] for place in places]
