"""Plots: what is drawn where."""

from __future__ import annotations

import re
from math import nan

import pytest

from loadtests.report.axes import Axis, linear, logarithmic, seconds
from loadtests.report.plots import Line, Mark, Plot, Stack, bars, drawn

_X = Axis(0.0, 10.0, ((0.0, "0"), (10.0, "10")))
_Y = Axis(0.0, 100.0, ((0.0, "0"), (100.0, "100")))


def _places(svg: str, tag: str) -> list[list[tuple[float, float]]]:
    found = re.findall(rf'<{tag}[^>]* points="([^"]*)"', svg)
    return [[(float(x), float(y)) for x, y in (point.split(",") for point in each.split())] for each in found]


def test_points_lie_where_the_axes_say() -> None:
    svg = drawn(Plot(_X, _Y, 220, lines=[Line("blue", [(0.0, 0.0), (5.0, 50.0), (10.0, 100.0)])]), 620, "a line")
    ((first, middle, last),) = _places(svg, "polyline")
    assert first == (46.0, 196.0)
    assert last == (610.0, 12.0)
    assert middle == ((46.0 + 610.0) / 2, (196.0 + 12.0) / 2)


def test_what_is_not_finite_is_a_gap_and_has_no_dot() -> None:
    points = [(0.0, 1.0), (2.0, 2.0), (4.0, nan), (6.0, 3.0), (8.0, 4.0)]
    svg = drawn(Plot(_X, _Y, lines=[Line("blue", points, titles=["t"] * 5, hollow=[True] * 5)]), 620, "a gap")
    assert [len(run) for run in _places(svg, "polyline")] == [2, 2]
    assert svg.count("<circle") == svg.count("hollow") == 4


def test_layers_of_a_stack_stand_on_each_other() -> None:
    stack = Stack(("blue", "red", "grey"), [0.0, 10.0], [(10.0, 30.0, 0.0), (20.0, 30.0, 0.0)])
    lower, upper = _places(drawn(Plot(_X, _Y, stack=stack), 620, "a stack"), "polygon")
    # The lower's top is the upper's bottom; a layer of nothing is not drawn.
    assert lower[:2] == upper[:1:-1]


def test_bars_are_as_high_as_their_sums() -> None:
    svg = bars(["a", "b"], [(25.0, 25.0), (100.0, 0.0)], ("blue", "red"), _Y, ["one", "two"])(620)
    heights = [float(each) for each in re.findall(r'<rect[^>]* height="([\d.]+)"', svg)]
    assert heights == pytest.approx([56.0, 56.0, 224.0])


def test_names_that_would_run_into_each_other_are_left_out() -> None:
    crowded = Axis(0.0, 1_000.0, tuple((at * 10.0, f"{at * 10} s") for at in range(100)))
    svg = drawn(Plot(crowded, _Y), 340, "crowded")
    assert 3 <= svg.count(" s</text>") < 20


def test_names_are_escaped() -> None:
    assert "&lt;b&gt;" in drawn(Plot(_X, _Y, marks=[Mark(5.0, "<b>")]), 620, "<i>")
    assert "<i>" not in drawn(Plot(_X, _Y), 620, "<i>")


def test_axes_of_nothing_are_axes_still() -> None:
    assert linear([], "{:g}".format).high > 0
    assert logarithmic([nan, 0.0], "{:g}".format).high > 0
    assert [text for _, text in seconds(1_200.0).ticks] == ["0 min", "5 min", "10 min", "15 min", "20 min"]
