"""Plots of what callers got: by how much was asked, by percentile, and over time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite, log10

import numpy as np

from loadtests import histogram
from loadtests.report.axes import Axis, linear, logarithmic, seconds
from loadtests.report.formats import count, ms, share
from loadtests.report.plots import NARROW, Line, Mark, Plot, Stack, bars, both_widths, drawn
from loadtests.result import Result, Second, StretchResult, TrafficResult

PERCENTILES = (
    ("answered_p50_ms", "p50", "blue"),
    ("answered_p99_ms", "p99", "violet"),
    ("answered_p999_ms", "p99.9", "amber"),
)
ENDS = (
    ("in time", "blue"),
    ("late", "violet"),
    ("by the rule", "amber"),
    ("refused", "grey"),
    ("failed", "red"),
)
_LINES = ("blue", "green", "violet", "amber", "red")
_NINES = (0.5, 0.9, 0.99, 0.999, 0.9999)
_GAP_S = 2.0
_ROOM_FOR_NAMES = 1.35


def curve(result: Result, steps: Sequence[StretchResult]) -> str:
    """Latency of answers against requests a second; hollow where the run does not say."""
    traffic = result.traffic[0]
    found = [step.of(traffic.name) for step in steps]
    asked = [each.asked / (step.end_s - step.start_s) for each, step in zip(found, steps, strict=True)]
    latencies = [each.shown(name) for each in found for name, _, _ in PERCENTILES]
    marks = [Mark(traffic.within_ms, f"budget {traffic.within_ms:g} ms", "red", upright=False)]
    if result.capacity_per_s:
        marks.append(Mark(result.capacity_per_s, "capacity"))
    plot = Plot(
        linear(asked, count),
        logarithmic([*latencies, traffic.within_ms], _ms_tick),
        height=260,
        marks=marks,
        lines=[
            Line(
                colour,
                [(x, each.shown(name)) for x, each in zip(asked, found, strict=True)],
                [f"{text} {ms(each.shown(name))} ms at {count(x)}/s" for x, each in zip(asked, found, strict=True)],
                [bool(each.void) for each in found],
            )
            for name, text, colour in PERCENTILES
        ],
    )
    return both_widths(lambda width: drawn(plot, width, "Latency in milliseconds against requests a second"))


def throughput(result: Result, steps: Sequence[StretchResult]) -> str:
    """What became of the requests of each step, a second."""
    name = result.traffic[0].name
    heights, names, titles = [], [], []
    for step in steps:
        took_s = step.end_s - step.start_s
        figures = step.of(name)
        in_time = figures.measures["goodput_per_s"]
        failed = (figures.failed + figures.unanswered) / took_s
        heights.append(
            (in_time, figures.good / took_s - in_time, figures.degraded / took_s, figures.refused / took_s, failed)
        )
        names.append(f"{step.of_capacity:.0%}".replace("%", " %") if step.of_capacity else count(step.asked_per_s))
        ends = zip(ENDS, heights[-1], strict=True)
        titles.append(f"{step.name}: " + ", ".join(f"{text} {count(value)}/s" for (text, _), value in ends if value))
    y = linear([sum(each) for each in heights], count)
    return both_widths(bars(names, heights, [colour for _, colour in ENDS], y, titles))


def by_percentile(traffic: TrafficResult, stretches: Sequence[StretchResult]) -> str:
    """Latency of answers at each percentile, one line a stretch; the axis gives every further nine as much room."""
    lines, latencies = [], []
    for stretch, colour in zip(stretches, _LINES, strict=False):
        counts = np.zeros(histogram.BUCKETS, np.int64)
        for second in seconds_of(traffic, stretch):
            for bucket, number in second.latencies.items():
                counts[bucket] += number
        total = int(counts.sum())
        shares = [at for at in np.linspace(0, 4, 81) if total and 10**-at >= 1 / total]
        points = [(float(at), histogram.percentile_ms(counts, (1 - 10**-at) * 100)) for at in shares]
        latencies += [value for _, value in points]
        lines.append(Line(colour, points))
    x = Axis(0.0, 4.0, ((0.0, "0"), *((-log10(1 - at), f"{at * 100:g}") for at in _NINES)))
    y = logarithmic([*latencies, traffic.within_ms], _ms_tick)
    marks = [Mark(traffic.within_ms, f"budget {traffic.within_ms:g} ms", "red", upright=False)]
    return both_widths(
        lambda width: drawn(Plot(x, y, 260, None, marks, lines), width, "Latency in milliseconds by percentile")
    )


def outcomes_over_time(result: Result, traffic: TrafficResult) -> str:
    """Requests a second by what became of them."""
    found = _whole(traffic)
    # The names of faults stand above what they did.
    room = _ROOM_FOR_NAMES if result.faults else 1.0
    plot = Plot(
        seconds(result.seconds),
        linear([sum(_ends(each)) * room for each in found], count),
        stack=Stack([colour for _, colour in ENDS], *_steps(found)),
        marks=_fault_marks(result),
        height=210,
    )
    return both_widths(
        lambda width: drawn(_fewer(plot, width), width, f"Requests a second of {traffic.name} over time")
    )


def latency_over_time(result: Result, traffic: TrafficResult) -> str:
    """Percentiles of each second's answers."""
    counted = [(second.at_s, _counts(second)) for second in traffic.seconds]
    lines = []
    for at, colour in ((50, "blue"), (99, "violet"), (100, "amber")):
        points = [(at_s + 0.5, histogram.percentile_ms(counts, at)) for at_s, counts in counted]
        lines.append(Line(colour, _with_gaps(points)))
    y = logarithmic([value for line in lines for _, value in line.points] + [traffic.within_ms], _ms_tick)
    marks = [
        Mark(traffic.within_ms, f"budget {traffic.within_ms:g} ms", "red", upright=False),
        *(Mark(each.at_s, "", "red", until=each.at_s + each.for_s) for each in result.faults),
    ]
    plot = Plot(seconds(result.seconds), y, 210, None, marks, lines)
    return both_widths(lambda width: drawn(plot, width, f"Latency of {traffic.name} over time, in milliseconds"))


def seconds_of(traffic: TrafficResult, stretch: StretchResult) -> list[Second]:
    """The whole seconds inside a stretch."""
    return [each for each in traffic.seconds if stretch.start_s <= each.at_s and each.at_s + 1 <= stretch.end_s + 1e-9]


def _whole(traffic: TrafficResult) -> list[Second]:
    empty = Second(at_s=0, good=0, degraded=0, refused=0, failed=0, in_time=0, latencies={})
    known = {int(each.at_s): each for each in traffic.seconds}
    end = max(known, default=0) + 1
    return [known.get(at, empty.model_copy(update={"at_s": float(at)})) for at in range(end)]


def _steps(found: Sequence[Second]) -> tuple[list[float], list[tuple[float, ...]]]:
    """Each second as a flat stretch, so that areas do not slope where rates jump."""
    xs = [each.at_s + edge for each in found for edge in (0.0, 1.0)]
    return xs, [_ends(each) for each in found for _ in range(2)]


def _ends(second: Second) -> tuple[float, ...]:
    return second.in_time, second.good - second.in_time, second.degraded, second.refused, second.failed


def _counts(second: Second) -> histogram.Counts:
    counts = np.zeros(histogram.BUCKETS, np.int64)
    for bucket, number in second.latencies.items():
        counts[bucket] = number
    return counts


def _with_gaps(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """With a break wherever seconds are missing."""
    found = list(points[:1])
    for before, now in pairwise(points):
        if now[0] - before[0] > _GAP_S:
            found.append((before[0] + 0.5, float("nan")))
        found.append(now)
    return found


def _fault_marks(result: Result) -> list[Mark]:
    return [Mark(each.at_s, each.what, "red", until=each.at_s + each.for_s) for each in result.faults]


def _fewer(plot: Plot, width: int) -> Plot:
    """Without the marks' names where they would run into each other."""
    if width > NARROW:
        return plot
    marks = [Mark(each.value, "", each.colour, each.upright, each.until) for each in plot.marks]
    return Plot(plot.x, plot.y, plot.height, plot.stack, marks, plot.lines)


def _ms_tick(value: float) -> str:
    return f"{value:g}" if isfinite(value) and value < 1_000 else f"{value / 1_000:g} s"


def told_percentiles(stretch: StretchResult, traffic: str) -> str:
    """A stretch in a few words, for a legend."""
    figures = stretch.of(traffic)
    rate = figures.asked / (stretch.end_s - stretch.start_s)
    return f"{stretch.name} ({count(rate)}/s, {share(figures.measures['goodput_share'])} in time)"
