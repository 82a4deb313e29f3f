"""Scenarios: what may be declared, and that those which come along are right."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from loadtests.assessment import check_measures
from loadtests.failures import CannotTest
from loadtests.plan import moment_of, schedule, stretches, total_s
from loadtests.scenario import Scenario, load, names

_LEAST = """
title = "t"
about = "a"
[[traffic]]
name = "decisions"
[[phase]]
name = "calm"
seconds = 2
per_s = 100
"""


def _written(directory: Path, text: str) -> str:
    path = directory / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", names())
def test_every_scenario_that_comes_along_can_be_played(name: str) -> None:
    scenario, text = load(name)
    check_measures(scenario)
    plan = stretches(scenario, 1_000.0)
    assert text.startswith("#")
    assert scenario.objective
    for fault in scenario.fault:
        assert 0 <= moment_of(fault, plan) < total_s(plan)
    for before, after in pairwise(plan):
        assert after.start_s >= before.end_s


def test_the_kinds_that_are_promised_are_there() -> None:
    assert {"steady", "step", "spike", "soak", "overload", "fault"} <= set(names())


def test_the_usual_one_takes_about_two_minutes() -> None:
    scenario, _ = load("step")
    assert 90 <= total_s(stretches(scenario, 1_000.0)) <= 120


def test_an_unknown_scenario_names_those_there_are() -> None:
    with pytest.raises(CannotTest, match=r"no scenario 'nope'; there are: fault, overload"):
        load("nope")


def test_one_of_your_own_is_a_file(tmp_path: Path) -> None:
    scenario, text = load(_written(tmp_path, _LEAST))
    assert scenario.title == "t"
    assert text == _LEAST


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("of_capacity = 0.5", "either per_s or of_capacity"),
        ("colour = 3", "phase.0.colour"),
        ('[[objective]]\nname="o"\nmeasure="p99_ms"\nbound="<= 5"\nphase="storm"', "no phase 'storm'; there are: calm"),
        ('[[objective]]\nname="o"\nmeasure="p99_ms"\nbound="about 5"\nphase="calm"', "objective.0.bound"),
        (
            '[[objective]]\nname="o"\nmeasure="failed"\nbound="<= 5"\nphase="calm"\ntraffic="other"',
            "no traffic 'other'; there are: decisions",
        ),
        ("[[", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, more: str, told: str) -> None:
    with pytest.raises(CannotTest, match=told):
        load(_written(tmp_path, _LEAST + more))


def test_an_unknown_measure_names_those_there_are(tmp_path: Path) -> None:
    objective = '[[objective]]\nname="o"\nmeasure="p42_ms"\nbound="<= 5"\nphase="calm"'
    scenario, _ = load(_written(tmp_path, _LEAST + objective))
    with pytest.raises(CannotTest, match=r"no measure 'p42_ms'.*answered_p99_ms"):
        check_measures(scenario)


def _scenario(**phase: object) -> Scenario:
    return Scenario.model_validate(
        {
            "title": "t",
            "about": "a",
            "traffic": [{"name": "decisions"}, {"name": "events", "kind": "ingest", "share": 0.2, "batch": 10}],
            "phase": [
                {"name": "warm", "seconds": 1, "per_s": 50},
                {"name": "step", "seconds": 2, "pause_s": 0.5, **phase},
            ],
        }
    )


def test_a_phase_of_several_shares_is_a_stretch_for_each() -> None:
    plan = stretches(_scenario(of_capacity=(0.5, 2.0)), capacity_per_s=1_000.0)
    assert [(each.name, each.start_s, each.per_s, each.on_curve) for each in plan] == [
        ("warm", 0.0, 50.0, False),
        ("step at 50 %", 1.5, 500.0, True),
        ("step at 200 %", 4.0, 2_000.0, True),
    ]
    assert total_s(plan) == 6.0


def test_longer_means_every_stretch_and_no_pause() -> None:
    plan = stretches(_scenario(per_s=10), 0.0, times_as_long=3.0)
    assert [(each.start_s, each.seconds) for each in plan] == [(0.0, 3.0), (3.5, 6.0)]


def test_each_traffic_gets_its_share_in_its_stretches() -> None:
    scenario = _scenario(of_capacity=(0.5, 2.0))
    plan = stretches(scenario, 1_000.0)
    decisions, events = (schedule(plan, traffic, np.zeros(1), 1) for traffic in scenario.traffic)
    assert len(decisions) == 50 + 1_000 + 4_000
    # A fifth as many events, ten in each request.
    assert len(events) == 1 + 20 + 80
    assert (np.diff(decisions) >= 0).all()
    assert not ((decisions > 1.0) & (decisions < 1.5)).any()


def test_recorded_arrivals_keep_the_rhythm_of_the_recording() -> None:
    scenario = _scenario(per_s=10, arrivals="recorded")
    moments = schedule(stretches(scenario, 0.0), scenario.traffic[0], np.array([0.0, 1.0, 4.0]), 1)[50:]
    gaps = np.diff(moments)
    assert len(moments) == 20
    # Of three gaps the second is three times as long as the first.
    assert gaps[1] == pytest.approx(3 * gaps[0])
    assert gaps[3] == pytest.approx(gaps[0])
