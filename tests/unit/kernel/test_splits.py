"""The split never lets a model learn from what it is judged on, or from labels nobody knew yet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.kernel.durations import DAY_US
from flywheel.kernel.splits import Shares, TooLittleHistory, split_by_time


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
