"""The knobs every world has, and the speed of its clock."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from pydantic import ValidationError

from flywheel.contracts.events import to_us
from flywheel.kernel.world import Day, Drift, WorldKnobs, clock_speed, day_name
from usecases.fraud.simulation.start import START


@dataclass
class Quiet:
    """A world in which nothing happens."""

    daily_requests: float = 1_000.0
    start_us: int = to_us(START)

    def day(self, number: int) -> Day:
        return Day(number, (), ())


def test_a_second_of_wall_clock_yields_rate_requests() -> None:
    event_seconds = clock_speed(Quiet(), rate=10.0)
    assert event_seconds / 86_400 * Quiet().daily_requests == pytest.approx(10.0)


def test_a_day_is_named_by_its_date() -> None:
    assert day_name(Quiet(), 30) == "2018-05-01"


@pytest.mark.parametrize(
    "knobs",
    [
        {"rate": 0},
        {"late_share": 1.1},
        {"prevalence": -1},
        {"label_delay_min_days": 5, "label_delay_max_days": 4},
        {"drift_kind": "earthquake"},
    ],
)
def test_impossible_knobs_are_refused(knobs: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        WorldKnobs.model_validate(knobs)


def test_drift_touches_only_its_kind_and_only_from_its_day_on() -> None:
    knobs = WorldKnobs(drift_kind=Drift.AMOUNTS, drift_day=5, drift_factor=2)
    assert [knobs.drift_of(Drift.AMOUNTS, day) for day in (4, 5, 6)] == [1.0, 2.0, 2.0]
    assert knobs.drift_of(Drift.VOLUME, 6) == 1.0


def test_without_a_day_there_is_no_drift() -> None:
    assert WorldKnobs().drift_of(Drift.AMOUNTS, 10_000) == 1.0
