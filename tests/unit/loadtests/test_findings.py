"""What is made of runs: figures, when they are void, and counts by second."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest

from loadtests.findings import by_second, figures, void
from loadtests.generator.outcomes import Outcome, Run, run_of
from loadtests.measures import MEASURES, recovery_s
from tests.load_results import run_at


def _run(intended_s: list[float], latencies_ms: list[float], outcomes: list[Outcome], lag_ms: float = 0.0) -> Run:
    intended = np.array(intended_s)
    done = intended + np.array(latencies_ms) / 1e3
    return run_of(intended, (intended + lag_ms / 1e3).tolist(), done.tolist(), outcomes, seconds=1.0, cpu_share=0.1)


def test_every_request_is_in_one_place() -> None:
    ends = [Outcome.GOOD, Outcome.DEGRADED, Outcome.REFUSED, Outcome.FAILED, Outcome.UNANSWERED]
    found = figures("decisions", _run([0.1] * 5, [10.0] * 5, ends), 50.0, 0.0)
    assert (found.asked, found.good, found.degraded, found.refused, found.failed, found.unanswered) == (
        5,
        1,
        1,
        1,
        1,
        1,
    )
    assert found.measures["served_share"] == pytest.approx(0.4)
    assert found.measures["failed"] == 2
    assert found.measures["goodput_share"] == pytest.approx(0.2)
    # Four of five got no good answer, and count as for ever.
    assert found.measures["p50_ms"] == float("inf")
    assert found.measures["answered_p50_ms"] == pytest.approx(10.0)


def test_a_late_answer_is_no_goodput() -> None:
    found = figures("decisions", _run([0.1, 0.2], [10.0, 60.0], [Outcome.GOOD] * 2), 50.0, 0.0)
    assert found.measures["goodput_per_s"] == 1.0


def test_measures_of_nothing_are_no_numbers_and_raise_nothing() -> None:
    empty = run_of([], [], [], [], seconds=1.0, cpu_share=0.0)
    found = figures("decisions", empty, 50.0, 0.0)
    assert set(found.measures) == set(MEASURES)
    assert isnan(found.measures["answered_p99_ms"])
    assert found.void == "nothing was sent"


def test_a_stretch_is_void_when_the_generator_was_late_or_stood_still_and_only_then() -> None:
    assert void(run_at(100, 2.0, lag_ms=1.0), stall_ms=20.0) == ""
    assert "could not keep up" in void(run_at(100, 2.0, lag_ms=8.0), stall_ms=0.0)
    assert "stood still for 400 ms" in void(run_at(100, 2.0), stall_ms=400.0)


def test_recovery_is_the_end_of_the_last_bad_half_second() -> None:
    moments = [place / 100 for place in range(200)]
    ends = [Outcome.REFUSED if at < 0.42 else Outcome.GOOD for at in moments]
    assert recovery_s(_run(moments, [5.0] * 200, ends), 50.0) == pytest.approx(0.5)
    assert recovery_s(_run(moments, [5.0] * 200, [Outcome.GOOD] * 200), 50.0) == 0.0
    assert recovery_s(_run(moments, [70.0] * 200, [Outcome.GOOD] * 200), 50.0) == pytest.approx(2.0)


def test_seconds_add_up_to_the_run() -> None:
    run = run_at(500, 4.0, refused_share=0.1)
    seconds = by_second(run, 50.0)
    assert [each.at_s for each in seconds] == [0.0, 1.0, 2.0, 3.0]
    assert sum(each.good for each in seconds) == run.count(Outcome.GOOD)
    assert sum(each.refused for each in seconds) == run.count(Outcome.REFUSED)
    assert sum(sum(each.latencies.values()) for each in seconds) == run.count(Outcome.GOOD)


def test_a_second_without_requests_is_left_out() -> None:
    run = _run([0.5, 2.5], [1.0, 1.0], [Outcome.GOOD] * 2)
    assert [each.at_s for each in by_second(run, 50.0)] == [0.0, 2.0]
