"""Results side by side."""

from __future__ import annotations

import pytest

from loadtests.comparison.compared import compare
from loadtests.comparison.page import page
from loadtests.comparison.told import told
from loadtests.failures import CannotTest
from tests.load_results import result_of

_STEPS = {"calm": 400.0, "busy": 800.0}


def test_a_slower_side_is_worse_and_one_that_is_alike_is_not() -> None:
    a = result_of(_STEPS, seconds=20.0)
    slower = {row.measure: row for row in compare([a], [result_of(_STEPS, seconds=20.0, median_ms=3.0, seed=2)]).rows}
    assert slower["answered_p50_ms"].verdict == "worse"
    assert slower["answered_p50_ms"].interval.low < 1.5 < slower["answered_p50_ms"].interval.high
    alike = {row.measure: row for row in compare([a], [result_of(_STEPS, seconds=20.0, seed=3)]).rows}
    assert alike["answered_p50_ms"].verdict == "no difference shown"


def test_fewer_refusals_are_better_and_told_as_points() -> None:
    more = result_of(_STEPS, seconds=20.0, refused_share=0.2)
    fewer = result_of(_STEPS, seconds=20.0, refused_share=0.1, seed=2)
    comparison = compare([more], [fewer])
    row = next(row for row in comparison.rows if row.measure == "refused_share")
    assert row.verdict == "better"
    assert row.interval.low < -0.1 < row.interval.high
    assert "pp" in told(comparison)


def test_a_percentile_needs_answers_beyond_it() -> None:
    rows = compare([result_of(_STEPS)], [result_of(_STEPS, seed=2)]).rows
    verdicts = {row.measure: row.verdict for row in rows if row.stretch == "calm"}
    assert verdicts["answered_p999_ms"] == "too few to say"
    assert verdicts["answered_p99_ms"] != "too few to say"


def test_pairs_are_compared_pair_by_pair() -> None:
    a = [result_of(_STEPS, median_ms=2.0 * factor, seed=seed) for seed, factor in enumerate((1.0, 2.0, 3.0))]
    b = [result_of(_STEPS, median_ms=2.4 * factor, seed=seed + 10) for seed, factor in enumerate((1.0, 2.0, 3.0))]
    comparison = compare(a, b)
    row = next(row for row in comparison.rows if row.measure == "answered_p50_ms")
    assert "3 pairs" in comparison.method
    assert row.verdict == "worse"
    assert row.interval.low < 1.2 < row.interval.high


def test_a_pair_with_a_void_run_is_left_out_and_the_others_speak() -> None:
    a = [result_of(_STEPS, seed=seed, lag_ms=20.0 if seed == 2 else 0.0) for seed in range(4)]
    b = [result_of(_STEPS, seed=seed + 10, median_ms=4.0) for seed in range(4)]
    comparison = compare(a, b)
    assert comparison.doubts[0].startswith("calm: 1 of 4 pairs left out as void (the generator could not keep up")
    assert next(row for row in comparison.rows if row.measure == "answered_p50_ms").verdict == "worse"


def test_stretches_that_asked_differently_or_are_void_are_left_out_and_said_so() -> None:
    with pytest.raises(CannotTest, match="CAPACITY=1000"):
        compare([result_of(_STEPS)], [result_of({"calm": 500.0, "busy": 900.0})])
    comparison = compare([result_of(_STEPS)], [result_of({"calm": 400.0, "busy": 900.0})])
    assert {row.stretch for row in comparison.rows} == {"calm"}
    assert "busy: asked at 800/s and 900/s" in comparison.doubts[0]
    with pytest.raises(CannotTest, match="void"):
        compare([result_of(_STEPS, lag_ms=20)], [result_of(_STEPS)])


def test_different_scenarios_cannot_be_compared() -> None:
    other = result_of(_STEPS).model_copy(update={"scenario": "spike"})
    with pytest.raises(CannotTest, match="A is step of fraud, B is spike of fraud"):
        compare([result_of(_STEPS)], [other])


def test_the_page_shows_every_row_and_needs_nothing_else() -> None:
    html = page(compare([result_of(_STEPS)], [result_of(_STEPS, median_ms=3.0)]))
    assert html.count('class="forest"') == 14
    assert "://" not in html
    assert "<script" not in html
