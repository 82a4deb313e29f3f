"""Drift: what the bins are, that PSI is what it says, and that sampling alone hardly ever alarms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.contracts.models import Histogram
from flywheel.kernel.drift import Alarm, count, histogram, noise, psi, shift

_values = st.lists(st.floats(-1e9, 1e9, allow_nan=False, width=32) | st.just(float("nan")), min_size=0, max_size=200)


def test_bins_of_a_continuous_variable_are_equally_filled() -> None:
    reference = histogram(np.random.default_rng(1).normal(size=10_000))
    assert len(reference.edges) == 9
    assert reference.counts == (1_000,) * 10


def test_a_constant_variable_notices_values_on_both_sides() -> None:
    reference = histogram([5.0] * 1_000)
    assert reference.counts == (0, 1_000, 0)
    assert count([4.0, 5.0, 6.0], reference).tolist() == [1, 1, 1, 0]


def test_a_frequent_value_has_a_bin_of_its_own() -> None:
    reference = histogram([0.0] * 900 + list(range(1, 101)))
    zero_bin = int(np.flatnonzero(count([0.0], reference))[0])
    assert reference.counts[zero_bin] == 900
    assert count([-1.0], reference)[zero_bin] == 0
    assert count([1.0], reference)[zero_bin] == 0


def test_every_value_of_a_few_valued_variable_is_told_apart() -> None:
    reference = histogram([0, 1, 2] * 100)
    assert sorted(number for number in reference.counts if number) == [100, 100, 100]


def test_missing_values_are_counted_apart() -> None:
    reference = histogram([1.0, 2.0, math.nan])
    assert reference.missing == 1
    assert count([math.nan, math.nan, 1.5], reference)[-1] == 2
    assert psi(histogram([1.0] * 500), count([math.nan] * 500, histogram([1.0] * 500))) > 1


@given(_values)
def test_counting_the_reference_again_gives_the_reference(values: list[float]) -> None:
    reference = histogram(values)
    assert count(values, reference).tolist() == [*reference.counts, reference.missing]
    assert list(reference.edges) == sorted(set(reference.edges))


@given(_values.filter(lambda values: len(values) > 0))
def test_no_difference_is_nil_and_none_is_negative(values: list[float]) -> None:
    reference = histogram(values)
    assert psi(reference, count(values, reference)) == pytest.approx(0)
    assert psi(reference, count([*values, 3.0], reference)) >= 0


def test_single_precision_moves_nothing_across_bins() -> None:
    values = np.random.default_rng(2).choice([0.1, 0.2, 0.3, 1 / 3, 2 / 3], 1_000)
    reference = histogram(values)
    assert count(values.astype(np.float32), reference).tolist() == [*reference.counts, 0]


def test_psi_of_known_shares() -> None:
    reference = Histogram(edges=(0.5,), counts=(500_000, 500_000))
    expected = (0.8 - 0.5) * math.log(0.8 / 0.5) + (0.2 - 0.5) * math.log(0.2 / 0.5)
    assert psi(reference, [800_000, 200_000, 0]) == pytest.approx(expected, rel=1e-4)


def test_nothing_is_said_about_empty_windows() -> None:
    reference = histogram(range(100))
    assert math.isnan(psi(reference, count([], reference)))
    assert not shift(reference, count([], reference)).exceeds
    assert math.isnan(psi(histogram([]), [5, 0]))


def test_counts_of_another_reference_are_refused() -> None:
    with pytest.raises(ValueError, match="3 bins"):
        psi(histogram(range(100)), [1, 2, 3])


def test_too_few_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        histogram([1.0], bins=1)


@pytest.mark.parametrize("size", [200, 1_000, 5_000])
def test_sampling_alone_exceeds_the_noise_bound_about_once_in_a_thousand(size: int) -> None:
    rng = np.random.default_rng(3)
    reference = histogram(rng.normal(size=20_000))
    shares = np.array(reference.counts) / sum(reference.counts)
    windows = [np.append(rng.multinomial(size, shares), 0) for _ in range(2_000)]
    exceeding = sum(psi(reference, window) > noise(reference, window) for window in windows)
    # Mean 2 of 2,000 at 0.1 %; small windows have heavier tails than chi-square, still within 0.5 %.
    assert exceeding <= 10


def test_a_small_window_above_the_threshold_by_chance_does_not_exceed() -> None:
    rng = np.random.default_rng(4)
    reference = histogram(rng.normal(size=10_000))
    shifts = [shift(reference, count(rng.normal(size=60), reference)) for _ in range(300)]
    above_threshold = [found for found in shifts if found.psi > 0.2]
    assert len(above_threshold) > 10
    assert sum(found.exceeds for found in shifts) <= 3


def test_a_real_shift_exceeds() -> None:
    rng = np.random.default_rng(5)
    reference = histogram(rng.normal(size=10_000))
    assert shift(reference, count(rng.normal(0.8, 1, size=2_000), reference)).exceeds


def test_one_far_outlier_hides_nothing() -> None:
    rng = np.random.default_rng(6)
    reference = histogram(np.append(rng.normal(size=9_999), 1e9))
    assert shift(reference, count(rng.normal(0.8, 1, size=2_000), reference)).exceeds


def test_an_alarm_rings_after_consecutive_windows_and_stops_with_a_calm_one() -> None:
    alarm = Alarm(windows=3)
    rang = [alarm.observe(exceeds) for exceeds in (True, True, False, True, True, True, True, False, True)]
    assert rang == [False, False, False, False, False, True, True, False, False]


def test_an_alarm_over_no_window_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Alarm(0)
