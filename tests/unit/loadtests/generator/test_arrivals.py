"""Schedules: how many requests, and when."""

from __future__ import annotations

import numpy as np

from loadtests.generator.arrivals import poisson, steps


def test_poisson_arrivals_are_as_many_as_asked_in_order_and_as_irregular_as_chance() -> None:
    schedule = poisson(1_000, 5, seed=1)
    gaps = np.diff(schedule)
    assert len(schedule) == 5_000
    assert schedule.min() >= 0
    assert schedule.max() <= 5
    assert (gaps >= 0).all()
    # The gaps of a Poisson process deviate as much as they are long.
    assert 0.9 < gaps.std() / gaps.mean() < 1.1


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert (poisson(100, 1, seed=3) == poisson(100, 1, seed=3)).all()
    assert (poisson(100, 1, seed=3) != poisson(100, 1, seed=4)).any()


def test_steps_follow_each_other() -> None:
    schedule = steps([(100, 2.0), (1_000, 1.0)], seed=1)
    assert ((schedule >= 0) & (schedule < 2)).sum() == 200
    assert ((schedule >= 2) & (schedule <= 3)).sum() == 1_000
