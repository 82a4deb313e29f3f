"""The experiment's statistics: sticky and fair assignment, and error rates that are what they claim to be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flywheel.contracts.models import Role
from flywheel.kernel.experiment import Ratio, assign, compare, ratio_of, sample_ratio_p, share_of, units_needed, wilson

UNITS = [f"c{number:06d}" for number in range(20_000)]


def test_a_unit_keeps_its_arm() -> None:
    assert [assign(unit, "a", 0.3) for unit in UNITS[:500]] == [assign(unit, "a", 0.3) for unit in UNITS[:500]]


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_split_is_the_declared_one(share: float) -> None:
    challengers = sum(assign(unit, "autumn", share) is Role.CHALLENGER for unit in UNITS)
    assert stats.binomtest(challengers, len(UNITS), share).pvalue > 0.001


@given(st.text(min_size=1, max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_takes_no_unit_back(unit: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    if assign(unit, "salt", low) is Role.CHALLENGER:
        assert assign(unit, "salt", high) is Role.CHALLENGER


def test_salts_draw_independently() -> None:
    table = np.zeros((2, 2), dtype=int)
    for unit in UNITS:
        table[assign(unit, "one", 0.5) is Role.CHALLENGER, assign(unit, "two", 0.5) is Role.CHALLENGER] += 1
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_the_sample_ratio_check_is_the_chi_square_test() -> None:
    found = sample_ratio_p(790, 225, 0.2)
    assert found == pytest.approx(stats.chisquare([790, 225], [1015 * 0.8, 1015 * 0.2]).pvalue)
    assert math.isnan(sample_ratio_p(0, 0, 0.2))
    assert math.isnan(sample_ratio_p(10, 0, 0.0))


def test_sound_splits_have_uniform_p_values_and_broken_ones_small() -> None:
    rng = np.random.default_rng(1)
    sound = [sample_ratio_p(10_000 - n, n, 0.2) for n in rng.binomial(10_000, 0.2, 2_000)]
    assert stats.kstest(sound, "uniform").pvalue > 0.001
    assert sample_ratio_p(8_000, 1_700, 0.2) < 0.001


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (480, 500)])
def test_wilson_is_the_published_interval(successes: int, trials: int) -> None:
    expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    found = wilson(successes, trials)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_covers_rare_proportions() -> None:
    draws = np.random.default_rng(2).binomial(200, 0.02, 4_000)
    covered = np.mean([wilson(int(n), 200).low <= 0.02 <= wilson(int(n), 200).high for n in draws])
    assert covered > 0.93


def test_nothing_is_said_without_trials_or_denominators() -> None:
    assert math.isnan(wilson(0, 0).low)
    assert math.isnan(ratio_of([], [], []).value)
    assert math.isnan(ratio_of(["a"], [1.0], [1.0]).variance)


@pytest.mark.parametrize("units", [8, 29, 40, 150])
def test_the_interval_of_a_share_covers_it_though_decisions_cluster(units: int) -> None:
    rng = np.random.default_rng(units)
    clustered, naive = [], []
    for _ in range(600):
        ids = np.repeat(np.arange(units), rng.poisson(6, units) + 1)
        success = rng.random(ids.size) < rng.beta(0.6, 0.6, units)[ids]
        found, other = share_of(ids, success), wilson(int(success.sum()), ids.size)
        assert 0 <= found.low <= found.estimate <= found.high <= 1
        clustered.append(found.low <= 0.5 <= found.high)
        naive.append(other.low <= 0.5 <= other.high)
    assert np.mean(clustered) > 0.92
    assert np.mean(naive) < 0.85


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_one_unit_however_often_it_decides_proves_little(share: float) -> None:
    found = share_of(np.zeros(1_000), np.full(1_000, share))
    assert found.estimate == share
    assert found.high - found.low > 0.7
    many = share_of(np.repeat(np.arange(100), 3), np.full(300, share))
    assert 0.01 < many.high - many.low < 0.1


def test_a_share_of_nothing_is_not_known() -> None:
    assert math.isnan(share_of([], []).estimate)


def _clustered(rng: np.random.Generator, units: int, effect: float = 0.0) -> Ratio:
    """Decisions of units that differ from each other far more than the decisions of one."""
    sizes = rng.poisson(12, units) + 1
    ids = np.repeat(np.arange(units), sizes)
    level = rng.gamma(2, 1, units)[ids]
    return ratio_of(ids, level + effect + rng.normal(0, 0.2, ids.size), np.ones(ids.size))


def test_without_a_difference_p_values_are_uniform_though_decisions_cluster() -> None:
    rng = np.random.default_rng(3)
    found = [compare(_clustered(rng, 240), _clustered(rng, 60)).p_value for _ in range(1_500)]
    assert stats.kstest(found, "uniform").pvalue > 0.001
    wrongly_seen = np.mean(np.array(found) < 0.05)
    assert wrongly_seen == pytest.approx(0.05, abs=0.02)


def test_ignoring_the_clusters_would_see_differences_that_are_not_there() -> None:
    rng = np.random.default_rng(4)
    pretended = []
    for _ in range(200):
        arms = []
        for units in (240, 60):
            sizes = rng.poisson(12, units) + 1
            level = rng.gamma(2, 1, units)[np.repeat(np.arange(units), sizes)]
            arms.append(ratio_of(np.arange(level.size), level, np.ones(level.size)))
        pretended.append(compare(arms[0], arms[1]).p_value < 0.05)
    assert np.mean(pretended) > 0.3


def test_the_interval_covers_a_real_difference() -> None:
    rng = np.random.default_rng(5)
    found = [compare(_clustered(rng, 200), _clustered(rng, 200, effect=0.5)).interval for _ in range(600)]
    covered = np.mean([interval.low <= 0.5 <= interval.high for interval in found])
    assert covered == pytest.approx(0.95, abs=0.03)


def test_the_planned_size_sees_the_difference_with_its_power() -> None:
    rng = np.random.default_rng(6)
    needed = units_needed(_clustered(rng, 5_000), smallest_difference=0.4, challenger_share=0.5)
    each = round(needed / 2)
    seen = np.mean([compare(_clustered(rng, each), _clustered(rng, each, 0.4)).p_value < 0.05 for _ in range(400)])
    assert seen == pytest.approx(0.8, abs=0.07)


def test_what_cannot_be_planned_needs_infinitely_many() -> None:
    unknown = Ratio(1.0, math.nan, 1)
    assert units_needed(unknown, 0.1, 0.2) == math.inf
    assert units_needed(Ratio(1.0, 0.1, 10), 0.0, 0.2) == math.inf
    assert math.isnan(compare(unknown, unknown).p_value)
