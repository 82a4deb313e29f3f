"""A scenario at known rates: which stretch of time asks how much, and every request's moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from loadtests.generator.arrivals import Schedule, constant, poisson, recorded
from loadtests.scenario import Arrivals, Fault, Phase, Scenario, Traffic, stretch_names


@dataclass(frozen=True)
class Stretch:
    """A part of the test with one rate; seconds from the test's begin."""

    name: str
    start_s: float
    seconds: float
    per_s: float
    of_capacity: float | None
    arrivals: Arrivals
    measured: bool
    on_curve: bool

    @property
    def end_s(self) -> float:
        return self.start_s + self.seconds


def stretches(scenario: Scenario, capacity_per_s: float, times_as_long: float = 1.0) -> list[Stretch]:
    """The test's stretches in their order, at rates that follow from the capacity."""
    found: list[Stretch] = []
    at_s = 0.0
    for phase in scenario.phase:
        for name, share in zip(stretch_names(phase), _shares(phase), strict=True):
            at_s += phase.pause_s
            per_s = phase.per_s or (share or 0.0) * capacity_per_s
            found.append(
                Stretch(
                    name,
                    at_s,
                    phase.seconds * times_as_long,
                    per_s,
                    share,
                    phase.arrivals,
                    phase.measured,
                    isinstance(phase.of_capacity, tuple),
                )
            )
            at_s = found[-1].end_s
    return found


def schedule(plan: Sequence[Stretch], traffic: Traffic, moments_s: NDArray[np.float64], seed: int) -> Schedule:
    """When each request of a traffic is sent. `moments_s`: of the recording, for arrivals as recorded."""
    return np.concatenate(
        [
            stretch.start_s + _arrivals(stretch, stretch.per_s * traffic.share / traffic.batch, moments_s, seed + place)
            for place, stretch in enumerate(plan)
        ]
    )


def moment_of(fault: Fault, plan: Sequence[Stretch]) -> float:
    """When a fault is made, in seconds from the test's begin."""
    return fault.at_s + next(stretch.start_s for stretch in plan if stretch.name == fault.phase)


def _arrivals(stretch: Stretch, per_s: float, moments_s: NDArray[np.float64], seed: int) -> Schedule:
    match stretch.arrivals:
        case Arrivals.CONSTANT:
            return constant(per_s, stretch.seconds)
        case Arrivals.RECORDED:
            return recorded(moments_s, per_s, stretch.seconds)
        case Arrivals.POISSON:
            return poisson(per_s, stretch.seconds, seed)


def _shares(phase: Phase) -> tuple[float | None, ...]:
    return phase.of_capacity if isinstance(phase.of_capacity, tuple) else (phase.of_capacity,)


def total_s(plan: Sequence[Stretch]) -> float:
    """How long the test lasts."""
    return max(chain((stretch.end_s for stretch in plan), (0.0,)))
