"""What a run says of itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loadtests.generator.outcomes import Outcome, Run, run_of


def _run(latencies_ms: list[float], outcomes: list[Outcome] | None = None, lag_ms: float = 0.0) -> Run:
    intended = np.arange(len(latencies_ms)) / 100
    return run_of(
        intended,
        (intended + lag_ms / 1e3).tolist(),
        (intended + np.array(latencies_ms) / 1e3).tolist(),
        outcomes or [Outcome.GOOD] * len(latencies_ms),
        seconds=len(latencies_ms) / 100,
        cpu_share=0.5,
    )


def test_latency_counts_from_the_intended_moment_not_from_when_the_generator_got_to_it() -> None:
    run = _run([30.0], lag_ms=20.0)
    assert run.latency_ms(Outcome.GOOD)[0] == pytest.approx(30)
    assert run.lag_ms(50) == pytest.approx(20)


def test_a_percentile_is_over_all_requests_so_refusing_does_not_improve_it() -> None:
    answered = _run([1.0] * 100)
    refused = _run([1.0] * 100, [Outcome.GOOD] * 98 + [Outcome.REFUSED] * 2)
    assert answered.percentile_ms(99) == pytest.approx(1)
    assert refused.percentile_ms(99) == math.inf
    assert refused.percentile_ms(98) == pytest.approx(1)


def test_what_never_came_is_for_ever() -> None:
    run = _run([1.0] * 9 + [math.nan], [Outcome.GOOD] * 9 + [Outcome.UNANSWERED])
    assert run.percentile_ms(90) == pytest.approx(1)
    assert run.percentile_ms(99) == math.inf


def test_in_time_counts_good_answers_only() -> None:
    run = _run([1.0, 60.0, 1.0, 1.0], [Outcome.GOOD, Outcome.GOOD, Outcome.DEGRADED, Outcome.REFUSED])
    assert run.in_time(50) == 1
    assert run.count(Outcome.GOOD, Outcome.DEGRADED) == 3


def test_a_generator_that_lags_says_so() -> None:
    assert not _run([1.0] * 100, lag_ms=1).is_void()
    late = _run([1.0] * 100, lag_ms=50)
    assert late.is_void()
    assert "VOID" in late.told()


def test_a_generator_that_never_got_to_its_requests_says_so() -> None:
    assert _run([1.0] * 100, lag_ms=math.inf).is_void()


def test_a_part_of_a_run_is_by_intended_moments() -> None:
    run = _run([1.0] * 100).between(0.25, 0.5)
    assert len(run.outcome) == 25
    assert run.rate_per_s == pytest.approx(100)
