"""What the stack's processes used while the test ran, and what serving said of its admission."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import fmean

from loadtests.report.axes import Axis, linear, seconds
from loadtests.report.elements import legend, panel
from loadtests.report.formats import count
from loadtests.report.plots import Line, Plot, both_widths, drawn, spark
from loadtests.result import Result, Usage

_WIDTH, _HEIGHT = 240, 40


def processes(result: Result) -> str:
    """One small picture a process: processors used over time, and memory in words."""
    if not result.usage:
        return panel("What the processes used", "The stack is not one of this machine's.", "", True)
    x = Axis(0.0, result.seconds, ())
    most = max((max(each.cores, default=0.0) for each in result.usage), default=1.0)
    cells = [_process(each, x, most) for each in result.usage]
    if result.machine_busy:
        shares = [share for _, share in result.machine_busy]
        cells.insert(0, _cell("whole machine", result.machine_busy, x, 1.0, "grey", f"{fmean(shares):.0%} busy", ""))
    return panel(
        "What the processes used",
        f"Processors over time, all on one scale (up to {most:.1f} cores), each with its children, "
        "and resident memory at its most.",
        f'<div class="processes">{"".join(cells)}</div>',
        True,
    )


def gauges(result: Result) -> str:
    """Requests under way in serving beside the limit of its admission."""
    found = result.gauges
    if not found.at_s:
        return ""
    plot = Plot(
        seconds(result.seconds),
        linear([*found.in_flight, *found.limit], count),
        height=260,
        lines=[
            Line("grey", list(zip(found.at_s, found.limit, strict=True)), dashed=True),
            Line("blue", list(zip(found.at_s, found.in_flight, strict=True))),
        ],
    )
    return panel(
        "Admission",
        "Requests under way in serving, looked at once a second, and how many it let be under way.",
        legend([("limit", "grey"), ("under way", "blue")], strokes=True)
        + both_widths(lambda width: drawn(plot, width, "Requests under way and their limit over time")),
    )


def _process(usage: Usage, x: Axis, most: float) -> str:
    inside = [cores for at_s, cores in zip(usage.at_s, usage.cores, strict=True) if at_s >= 0]
    points = list(zip(usage.at_s, usage.cores, strict=True))
    colour = "violet" if usage.process == "load generator" else "blue"
    return _cell(
        usage.process,
        points,
        x,
        most,
        colour,
        f"{fmean(inside) if inside else 0:.2f} cores",
        f"{count(max(usage.rss_mib, default=0.0))} MiB",
    )


def _cell(
    name: str, points: Sequence[tuple[float, float]], x: Axis, most: float, colour: str, used: str, memory: str
) -> str:
    picture = spark(points, x, most, _WIDTH, _HEIGHT, colour, f"{name} over time")
    return (
        f'<div class="process"><b>{escape(name)}</b>{picture}'
        f'<div class="sub"><span>{used}</span><span>{memory}</span></div></div>'
    )
