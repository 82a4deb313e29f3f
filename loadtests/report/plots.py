"""Plots as inline SVG: lines, stacked areas and bars on two axes. Colours are classes, so that a page can be dark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from math import isfinite

from loadtests.report.axes import Axis

WIDE, NARROW = 620, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 10.0, 12.0, 24.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """Points joined where they follow each other; what is not finite is a gap."""

    colour: str
    points: Sequence[Point]
    titles: Sequence[str] = ()
    """What a dot says when it is pointed at; dots are drawn only where there are titles."""
    hollow: Sequence[bool] = ()
    """Dots of what is doubtful."""
    dashed: bool = False


@dataclass(frozen=True)
class Mark:
    """A line across the plot at one value, with its name."""

    value: float
    text: str
    colour: str = "muted"
    upright: bool = True
    until: float | None = None
    """Upright ones may shade a stretch up to here."""


@dataclass(frozen=True)
class Stack:
    """Areas one on another: at each x the height of each."""

    colours: Sequence[str]
    xs: Sequence[float]
    heights: Sequence[Sequence[float]]
    """By x, then by colour."""


@dataclass(frozen=True)
class Plot:
    """What is drawn, in the order of its fields."""

    x: Axis
    y: Axis
    height: int = 220
    stack: Stack | None = None
    marks: Sequence[Mark] = ()
    lines: Sequence[Line] = field(default=())


def drawn(plot: Plot, width: int, label: str) -> str:
    """The plot at that width; `label` says what it shows to those who do not see it."""
    frame = _Frame(plot.x, plot.y, width, plot.height)
    parts = [_grid(frame)]
    if plot.stack:
        parts.append(_stack(frame, plot.stack))
    # Names of neighbours stand one below the other.
    parts += [_mark(frame, mark, 13 * (place % 3)) for place, mark in enumerate(plot.marks)]
    parts += [_line(frame, line) for line in plot.lines]
    return _svg(width, plot.height, label, parts)


def both_widths(draw: Callable[[int], str]) -> str:
    """The same drawing for wide and for narrow screens; the page's style shows one of them."""
    return f'<div class="wide">{draw(WIDE)}</div><div class="narrow">{draw(NARROW)}</div>'


def bars(
    names: Sequence[str], heights: Sequence[Sequence[float]], colours: Sequence[str], y: Axis, titles: Sequence[str]
) -> Callable[[int], str]:
    """Stacked bars side by side, drawn at a width."""

    def draw(width: int) -> str:
        plot_height = 260
        x = Axis(0, len(names), tuple((place + 0.5, name) for place, name in enumerate(names)))
        frame = _Frame(x, y, width, plot_height)
        parts = [_grid(frame, upright=False)]
        half = frame.width / len(names) * 0.36
        for place, (values, title) in enumerate(zip(heights, titles, strict=True)):
            middle, low = frame.x_of(place + 0.5), 0.0
            segments = []
            for value, colour in zip(values, colours, strict=True):
                top, bottom = frame.y_of(low + value), frame.y_of(low)
                low += value
                if bottom - top > 0.05:
                    segments.append(
                        f'<rect class="fill {colour}" x="{middle - half:.1f}" y="{top:.1f}" '
                        f'width="{2 * half:.1f}" height="{bottom - top:.1f}"/>'
                    )
            parts.append(f"<g>{''.join(segments)}<title>{escape(title)}</title></g>")
        return _svg(width, plot_height, "; ".join(titles), parts)

    return draw


def spark(points: Sequence[Point], x: Axis, most: float, width: int, height: int, colour: str, label: str) -> str:
    """A small area without axes, from zero to `most`."""
    y = Axis(0.0, most or 1.0, ())
    places = [(x.share(at) * width, height - 1 - y.share(value) * (height - 2)) for at, value in points]
    if not places:
        return ""
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    area = f"{places[0][0]:.1f},{height} {path} {places[-1][0]:.1f},{height}"
    return (
        f'<svg class="spark" viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}"><polygon class="fill faint {colour}" points="{area}"/>'
        f'<polyline class="line {colour}" points="{path}"/></svg>'
    )


class _Frame:
    def __init__(self, x: Axis, y: Axis, width: int, height: int) -> None:
        self.x, self.y = x, y
        self.width, self.height = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM

    def x_of(self, value: float) -> float:
        return _LEFT + self.x.share(value) * self.width

    def y_of(self, value: float) -> float:
        return _TOP + (1 - self.y.share(value)) * self.height


def _grid(frame: _Frame, *, upright: bool = True) -> str:
    parts = []
    for value, text in frame.y.ticks:
        at = frame.y_of(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + frame.width:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    bottom, last = _TOP + frame.height, float("-inf")
    for value, text in frame.x.ticks:
        at = frame.x_of(value)
        if upright:
            parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{bottom:.1f}" y2="{bottom + 4:.1f}"/>')
        # Names that would run into the one before are left out.
        half = len(text) * 3.1
        if at - half > last + 4:
            end = min(at, _LEFT + frame.width + _RIGHT - half)
            parts.append(f'<text x="{end:.1f}" y="{bottom + 17:.1f}" text-anchor="middle">{escape(text)}</text>')
            last = end + half
    return "".join(parts)


def _stack(frame: _Frame, stack: Stack) -> str:
    below = [0.0] * len(stack.xs)
    parts = []
    for layer, colour in enumerate(stack.colours):
        above = [low + heights[layer] for low, heights in zip(below, stack.heights, strict=True)]
        if any(heights[layer] for heights in stack.heights):
            up = [f"{frame.x_of(x):.1f},{frame.y_of(y):.1f}" for x, y in zip(stack.xs, above, strict=True)]
            down = [f"{frame.x_of(x):.1f},{frame.y_of(y):.1f}" for x, y in zip(stack.xs, below, strict=True)]
            parts.append(f'<polygon class="fill {colour}" points="{" ".join(up + down[::-1])}"/>')
        below = above
    return "".join(parts)


def _mark(frame: _Frame, mark: Mark, lower: int) -> str:
    top, bottom, right = _TOP, _TOP + frame.height, _LEFT + frame.width
    text = escape(mark.text)
    if not mark.upright:
        at = frame.y_of(mark.value)
        return (
            f'<line class="mark {mark.colour}" x1="{_LEFT}" x2="{right:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="{mark.colour}" x="{_LEFT + 5}" y="{at - 4:.1f}">{text}</text>'
        )
    at = frame.x_of(mark.value)
    shade = ""
    if mark.until is not None and mark.until > mark.value:
        shade = (
            f'<rect class="shade {mark.colour}" x="{at:.1f}" y="{top}" width="{frame.x_of(mark.until) - at:.1f}" '
            f'height="{frame.height:.1f}"/>'
        )
    anchor, shift = ("end", -4) if at > _LEFT + frame.width * 0.6 else ("start", 4)
    return (
        f'{shade}<line class="mark {mark.colour}" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{bottom:.1f}"/>'
        f'<text class="{mark.colour}" x="{at + shift:.1f}" y="{top + 9 + lower}" text-anchor="{anchor}">{text}</text>'
    )


def _line(frame: _Frame, line: Line) -> str:
    runs: list[list[str]] = [[]]
    for x, y in line.points:
        if isfinite(y):
            runs[-1].append(f"{frame.x_of(x):.1f},{frame.y_of(y):.1f}")
        elif runs[-1]:
            runs.append([])
    style = f"line {line.colour}" + (" dashed" if line.dashed else "")
    parts = [f'<polyline class="{style}" points="{" ".join(run)}"/>' for run in runs if run]
    for place, title in enumerate(line.titles):
        x, y = line.points[place]
        if isfinite(y):
            hollow = " hollow" if place < len(line.hollow) and line.hollow[place] else ""
            parts.append(
                f'<circle class="dot {line.colour}{hollow}" cx="{frame.x_of(x):.1f}" cy="{frame.y_of(y):.1f}" r="3.2">'
                f"<title>{escape(title)}</title></circle>"
            )
    return "".join(parts)


def _svg(width: int, height: int, label: str, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
