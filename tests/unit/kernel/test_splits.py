"""The split never lets a model learn from what it is judged on, or from labels nobody knew yet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.kernel.durations import DAY_US
from flywheel.kernel.splits import Shares, TooLittleHistory, beginning, split_by_time


@given(
    days=st.lists(st.integers(0, 200), min_size=50, max_size=300).filter(lambda days: max(days) - min(days) > 60),
    maturity_days=st.integers(0, 20),
)
def test_parts_follow_each_other_with_the_gap_before_validation(days: list[int], maturity_days: int) -> None:
    times = np.array(days, np.int64) * DAY_US
    try:
        split = split_by_time(times, maturity_days * DAY_US)
    except TooLittleHistory:
        return
    train, calibrate, validate = times[split.train], times[split.calibrate], times[split.validate]
    assert not (split.train & split.calibrate).any()
    assert train.max() < calibrate.min()
    assert calibrate.max() + maturity_days * DAY_US <= validate.min()
    assert validate.max() == times.max()
    assert max(train.max(), calibrate.max()) <= split.trained_until_us


def test_order_of_the_rows_does_not_matter() -> None:
    times = np.arange(100, dtype=np.int64) * DAY_US
    shuffled = np.random.default_rng(1).permutation(100)
    plain, mixed = split_by_time(times, 7 * DAY_US), split_by_time(times[shuffled], 7 * DAY_US)
    np.testing.assert_array_equal(plain.validate[shuffled], mixed.validate)
    np.testing.assert_array_equal(plain.train[shuffled], mixed.train)


def test_the_warm_up_trains_nobody() -> None:
    times = np.arange(100, dtype=np.int64)
    assert times[split_by_time(times, 10).train].min() == 14
    assert times[split_by_time(times, 10, Shares(warm_up=0)).train].min() == 0


@pytest.mark.parametrize("times", [[], [5], [0, 1, 2, 3]])
def test_too_short_a_history_says_so(times: list[int]) -> None:
    with pytest.raises(TooLittleHistory):
        split_by_time(np.array(times, np.int64), maturity_us=7)


@pytest.mark.parametrize("rows", [100, 5_000])
@pytest.mark.parametrize("warm_up", [0, 0.15])
def test_an_event_from_years_before_changes_nothing_for_the_others(rows: int, warm_up: float) -> None:
    times = np.linspace(3_000 * DAY_US, 3_100 * DAY_US, rows).astype(np.int64)
    plain = split_by_time(times, 7 * DAY_US, Shares(warm_up=warm_up))
    stray = split_by_time(np.array([0, *times]), 7 * DAY_US, Shares(warm_up=warm_up))
    for part in ("train", "calibrate", "validate"):
        assert not getattr(stray, part)[0]
        np.testing.assert_array_equal(getattr(stray, part)[1:], getattr(plain, part))
    assert (stray.begins_us, stray.trained_until_us) == (times[0], plain.trained_until_us)


def test_only_few_events_far_before_the_others_are_stray() -> None:
    times = np.arange(1_000)
    assert beginning(np.concatenate([np.full(5, -5_000), times])) == 0
    assert beginning(np.concatenate([np.full(50, -5_000), times])) == -5_000
    assert beginning(np.concatenate([[-100], times])) == -100
    assert beginning(np.array([5])) == 5


def test_a_short_history_tells_how_long_it_must_be_without_its_stray_events() -> None:
    times = np.concatenate([[0], 3_000 * DAY_US + np.arange(100) * DAY_US // 10])
    with pytest.raises(TooLittleHistory, match=r"span 9\.9 days, more than 14\.0 are needed .*left out: 1\)"):
        split_by_time(times, 7 * DAY_US)


def test_a_part_without_events_is_named() -> None:
    times = np.concatenate([np.arange(50), np.arange(90, 101)]) * DAY_US
    with pytest.raises(TooLittleHistory, match=r"calibrate on: .* between day 58\.0 and day 73\.0 .* 100\.0 days"):
        split_by_time(times, 7 * DAY_US)
