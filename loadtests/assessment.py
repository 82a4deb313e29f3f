"""Holds a scenario's objectives against what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from statistics import fmean

from loadtests.failures import CannotTest
from loadtests.measures import MEASURES, OF_TEST
from loadtests.replicas import replicas_of
from loadtests.result import StretchResult, Usage, Verdict
from loadtests.scenario import Objective, Scenario

_EDGE_SHARE = 0.2


def check_measures(scenario: Scenario) -> None:
    """Raises CannotTest for an objective about a measure that does not exist."""
    known = {*MEASURES, *OF_TEST}
    for objective in scenario.objective:
        if objective.measure not in known:
            raise CannotTest(
                f"Objective {objective.name!r}: there is no measure {objective.measure!r}; there are: "
                f"{', '.join(sorted(known))}"
            )


def assess(scenario: Scenario, stretches: Sequence[StretchResult], usage: Sequence[Usage]) -> list[Verdict]:
    """One verdict an objective, in their order."""
    return [_of(objective, scenario, stretches, usage) for objective in scenario.objective]


def _of(
    objective: Objective, scenario: Scenario, stretches: Sequence[StretchResult], usage: Sequence[Usage]
) -> Verdict:
    stretch = next(each for each in stretches if each.name == objective.phase)
    traffic = objective.traffic or scenario.traffic[0].name
    if objective.measure == "rss_growth_mib":
        subject = objective.process or ""
        value, why = _growth_mib(usage, subject, stretch), ""
    else:
        subject = traffic
        figures = stretch.of(traffic)
        why = figures.void
        value = (
            _of_peak(stretches, traffic, stretch)
            if objective.measure == "goodput_of_peak"
            else figures.measures[objective.measure]
        )
        if not why and not isnan(value) and not figures.has_enough_for(objective.measure):
            why = "too few requests to say"
    if isnan(value) and not why:
        why = "nothing of the kind was seen"
    verdict = "void" if why else "passed" if objective.holds(value) else "failed"
    return Verdict(
        name=objective.name,
        measure=objective.measure,
        phase=objective.phase,
        subject=subject,
        bound=objective.bound,
        value=value,
        verdict=verdict,
        why=why,
    )


def _of_peak(stretches: Sequence[StretchResult], traffic: str, stretch: StretchResult) -> float:
    rates = [each.of(traffic).measures["goodput_per_s"] for each in stretches if each.measured]
    return stretch.of(traffic).measures["goodput_per_s"] / max(*rates, 1e-9)


def _growth_mib(usage: Sequence[Usage], process: str, stretch: StretchResult) -> float:
    """Mean of the stretch's last fifth less mean of its first; of replicas, that of the one which grew most."""
    by_name = {each.process: each for each in usage}
    grown = [_grown_mib(by_name[name], stretch) for name in replicas_of(process, by_name)]
    return max((each for each in grown if each is not None), default=float("nan"))


def _grown_mib(usage: Usage, stretch: StretchResult) -> float | None:
    """None where the process was not seen in the stretch."""
    seen = zip(usage.at_s, usage.rss_mib, strict=True)
    inside = [rss for at_s, rss in seen if stretch.start_s <= at_s <= stretch.end_s]
    edge = max(1, int(len(inside) * _EDGE_SHARE))
    return fmean(inside[-edge:]) - fmean(inside[:edge]) if inside else None
