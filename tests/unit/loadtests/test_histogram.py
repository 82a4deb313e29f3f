"""Buckets of one relative size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests import histogram


@given(st.floats(min_value=0.3, max_value=130_000.0))
def test_no_latency_is_off_by_more_than_a_128th(latency_ms: float) -> None:
    (bucket,) = histogram.buckets(np.array([latency_ms]))
    assert histogram.MIDDLES_MS[bucket] == pytest.approx(latency_ms, rel=1 / 128, abs=0.001)


def test_buckets_ascend_with_what_they_stand_for() -> None:
    assert (np.diff(histogram.MIDDLES_MS) > 0).all()
    latency = np.geomspace(0.001, 100_000, 10_000)
    assert (np.diff(histogram.buckets(latency)) >= 0).all()


def test_percentiles_are_those_of_the_values() -> None:
    latency = np.random.default_rng(1).lognormal(1.0, 1.0, 100_000)
    counts = histogram.count(latency)
    for at in (50, 99, 99.9):
        assert histogram.percentile_ms(counts, at) == pytest.approx(float(np.percentile(latency, at)), rel=0.015)


def test_counts_of_parts_add_up_to_the_whole() -> None:
    latency = np.random.default_rng(2).lognormal(1.0, 1.0, 1_000)
    parts = histogram.count(latency[:400]) + histogram.count(latency[400:])
    assert (parts == histogram.count(latency)).all()


def test_what_never_came_is_for_ever_and_nothing_has_no_percentile() -> None:
    counts = histogram.count(np.array([1.0] * 98))
    assert histogram.percentile_ms(counts, 98, forever=2) == pytest.approx(1.0, rel=0.01)
    assert histogram.percentile_ms(counts, 99, forever=2) == float("inf")
    assert histogram.percentile_ms(histogram.count(np.array([])), 50) == float("inf")
