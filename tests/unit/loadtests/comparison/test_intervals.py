"""Intervals hold the truth as often as they claim, where there is no difference and where there is one."""

from __future__ import annotations

from math import isnan, log

import numpy as np
import pytest
from numpy.typing import NDArray

from loadtests.comparison.intervals import Interval, difference_of_pairs, ratio_of_pairs, ratio_of_runs

_TRIALS = 200


def _mean(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a table with sums in the first column and numbers in the second."""
    found: NDArray[np.float64] = counts[:, 0] / counts[:, 1]
    return found


def _run(rng: np.random.Generator, factor: float, alike: float) -> NDArray[np.float64]:
    """A minute of 50 latencies a second, whose level wanders; neighbouring seconds are alike."""
    noise = rng.normal(0.0, 0.1, 60)
    level = np.zeros(60)
    for second in range(1, 60):
        level[second] = alike * level[second - 1] + noise[second]
    latency = factor * np.exp(level)[:, None] * rng.lognormal(0.0, 0.4, (60, 50))
    return np.stack([latency.sum(axis=1), np.full(60, 50.0)], axis=1)


def _held(intervals: list[Interval], truth: float) -> float:
    return sum(each.low <= truth <= each.high for each in intervals) / len(intervals)


def test_pairs_hold_the_ratio_as_often_as_they_claim_although_pairs_differ_much() -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(1_000):
        machine = rng.normal(0.0, 0.5, 5)
        a = np.exp(machine + rng.normal(0.0, 0.05, 5))
        b = np.exp(machine + rng.normal(log(1.1), 0.05, 5))
        found.append(ratio_of_pairs(a.tolist(), b.tolist()))
    assert 0.93 <= _held(found, 1.1) <= 0.97
    # What is common to a pair does not widen its interval: unpaired it would be some fifty percent wide.
    assert np.median([each.high - each.low for each in found]) < 0.25


def test_differences_of_pairs_hold_it_as_well() -> None:
    rng = np.random.default_rng(2)
    found = [
        difference_of_pairs(rng.normal(0.50, 0.02, 4).tolist(), rng.normal(0.53, 0.02, 4).tolist())
        for _ in range(1_000)
    ]
    assert 0.93 <= _held(found, 0.03) <= 0.97


def test_blocks_hold_the_ratio_although_neighbouring_seconds_are_alike() -> None:
    rng = np.random.default_rng(3)
    for factor in (1.0, 1.2):
        pairs = [(_run(rng, 1.0, 0.5), _run(rng, factor, 0.5)) for _ in range(_TRIALS)]
        found = [ratio_of_runs(a, b, _mean, seed=trial) for trial, (a, b) in enumerate(pairs)]
        # Blocks of so short a run promise somewhat more than they hold.
        assert 0.9 <= _held(found, factor) <= 0.99


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(4)
    found = ratio_of_runs(_run(rng, 1.0, 0.3), _run(rng, 1.5, 0.3), _mean, seed=1)
    assert found.excludes(1.0)
    assert found.low < 1.5 < found.high


def test_one_pair_or_two_seconds_have_an_estimate_and_no_interval() -> None:
    pair = ratio_of_pairs([2.0], [3.0])
    assert pair.estimate == pytest.approx(1.5)
    assert isnan(pair.low)
    short = ratio_of_runs(np.array([[2.0, 1.0]] * 2), np.array([[3.0, 1.0]] * 2), _mean, seed=1)
    assert short.estimate == pytest.approx(1.5)
    assert isnan(short.high)
    assert not short.excludes(1.0)
