"""The simulation agrees with what is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from infra.capacity.queueing import erlang_c, lognormal, mean_wait_mg1, mean_wait_mmk, waits, waits_apart

COUNT, SETTLED = 200_000, 10_000


@pytest.mark.parametrize(
    ("servers", "offered", "share"), [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (10, 8.0, 0.4092), (100, 90.0, 0.2169)]
)
def test_erlang_c_is_as_tabulated(servers: int, offered: float, share: float) -> None:
    assert erlang_c(servers, offered) == pytest.approx(share, abs=2e-4)


@pytest.mark.parametrize(("servers", "busy"), [(1, 0.7), (3, 0.8), (20, 0.9)])
def test_memoryless_times_wait_as_erlang_says(servers: int, busy: float) -> None:
    rng = np.random.default_rng(1)
    found = waits(rng, servers, servers * busy, rng.exponential(1.0, COUNT))[SETTLED:]
    assert (found > 0).mean() == pytest.approx(erlang_c(servers, servers * busy), rel=0.05)
    assert found.mean() == pytest.approx(mean_wait_mmk(servers, servers * busy, 1.0), rel=0.12)


@pytest.mark.parametrize("variability", [0.0, 0.2, 1.0, 3.0])
def test_other_times_wait_as_pollaczek_and_khinchine_say(variability: float) -> None:
    rng = np.random.default_rng(2)
    found = waits(rng, 1, 0.6, lognormal(rng, 1.0, variability, COUNT))[SETTLED:]
    assert found.mean() == pytest.approx(mean_wait_mg1(0.6, 1.0, variability), rel=0.08)


def test_the_formulas_meet_where_both_hold() -> None:
    assert mean_wait_mg1(0.7, 2.0, 1.0) == pytest.approx(mean_wait_mmk(1, 0.7, 2.0))


def test_service_times_are_as_variable_as_asked() -> None:
    made = lognormal(np.random.default_rng(3), 0.2, 0.5, 500_000)
    assert made.mean() == pytest.approx(0.2, rel=0.01)
    assert made.var() / made.mean() ** 2 == pytest.approx(0.5, rel=0.03)


def test_a_shared_queue_waits_less_than_many() -> None:
    rng = np.random.default_rng(4)
    services = lognormal(rng, 1.0, 1.0, COUNT)
    together, apart = waits(rng, 10, 7.0, services), waits_apart(rng, 10, 7.0, services)
    assert len(apart) == len(together)
    assert np.percentile(together, 99) < np.percentile(apart, 99) / 3
    assert apart.mean() == pytest.approx(mean_wait_mg1(0.7, 1.0, 1.0), rel=0.1)


@pytest.mark.parametrize("offered", [2.0, 2.5])
def test_an_overloaded_queue_has_no_mean(offered: float) -> None:
    with pytest.raises(ValueError, match="grows without end"):
        erlang_c(2, offered)


def test_the_same_seed_waits_the_same() -> None:
    first, again = (waits(np.random.default_rng(5), 2, 1.5, np.ones(100)) for _ in range(2))
    assert (first == again).all()
