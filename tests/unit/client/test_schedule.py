"""The event clock: constant speed, waiting when it is too far behind, never in the future."""

from __future__ import annotations

import pytest

from flywheel.client.schedule import Schedule

SECOND_US = 1_000_000


class Clock:
    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def test_speed_is_event_seconds_per_wall_second() -> None:
    schedule = Schedule(60.0, 0, monotonic=Clock(5.0), wall=Clock(1e9))
    assert schedule.wait_s(120 * SECOND_US) == pytest.approx(2.0)


def test_a_short_delay_is_caught_up_with() -> None:
    clock = Clock(0.0)
    schedule = Schedule(1.0, 0, monotonic=clock, wall=Clock(1e9))
    clock.now_s = 0.8
    assert schedule.wait_s(0) == pytest.approx(-0.8)
    assert not schedule.slip()
    assert schedule.behind_s == pytest.approx(0.8)
    assert schedule.wait_s(SECOND_US) == pytest.approx(0.2)
    assert schedule.behind_s == 0.0


def test_a_long_delay_makes_event_time_wait_and_is_remembered() -> None:
    clock = Clock(0.0)
    schedule = Schedule(1.0, 0, monotonic=clock, wall=Clock(1e9))
    clock.now_s = 30.0
    schedule.wait_s(0)
    assert schedule.slip()
    assert schedule.behind_s == pytest.approx(30.0)
    assert schedule.wait_s(SECOND_US) == pytest.approx(1.0)
    assert schedule.behind_s == pytest.approx(30.0)


def test_event_time_does_not_overtake_the_wall_clock() -> None:
    clock, wall = Clock(0.0), Clock(100.0)
    schedule = Schedule(10.0, 100 * SECOND_US, monotonic=clock, wall=wall)
    assert schedule.wait_s(150 * SECOND_US) == pytest.approx(50.0)
    clock.now_s, wall.now_s = 50.0, 150.0
    assert schedule.wait_s(150 * SECOND_US) == pytest.approx(0.0)
    assert schedule.behind_s == pytest.approx(0.0)
