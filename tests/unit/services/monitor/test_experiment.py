"""The arms of this deployment are compared, and of few units nothing is said."""

from __future__ import annotations

from flywheel.contracts.decisions import Fallback
from flywheel.contracts.models import Role
from flywheel.kernel.deployment import Author, with_role
from tests.monitor_runs import Run, read_all, state_when
from tests.monitor_scene import CHALLENGER, CHAMPION, NOW, Scene


def test_the_experiment_compares_what_this_deployment_decided(run: Run) -> None:
    scene = Scene(per_day=300)
    scene.deploy()
    scene.days(0, 14)
    found = read_all(run(scene), 4_200).experiment
    assert found is not None
    champion, challenger = found.arms
    assert (champion.version, challenger.version) == (CHAMPION, CHALLENGER)
    assert champion.decisions + challenger.decisions == 4_200
    assert champion.units + challenger.units == scene.cards
    assert found.sample_ratio_p is not None
    assert found.sample_ratio_p > 0.001
    assert found.difference_per_1000 is not None
    interval = found.difference_per_1000
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < 0 < interval.high
    assert found.verdict.startswith("Not enough matured outcomes yet")


def test_without_a_challenger_there_is_no_experiment(run: Run) -> None:
    scene = Scene(per_day=50)
    scene.deploy(challenger=False)
    scene.days(0, 10)
    assert read_all(run(scene), 500).experiment is None


def test_of_few_units_no_split_is_called_broken(run: Run) -> None:
    scene = Scene()
    scene.deploy()
    for number in range(140):
        scene.decide(Role.CHAMPION, f"c{number}", Fallback.NONE)
    monitor = run(scene)
    few = read_all(monitor, 140).experiment
    assert few is not None
    assert (few.units_least, few.sample_ratio_p) == (150, None)
    assert few.verdict.startswith("Too few decisions yet")
    for number in range(140, 150):
        scene.decide(Role.CHAMPION, f"c{number}", Fallback.NONE)
    enough = read_all(monitor, 150).experiment
    assert enough is not None
    assert enough.sample_ratio_p is not None
    assert enough.verdict.startswith("The split is broken")


def test_the_comparison_ends_with_the_challenger_it_is_of(run: Run) -> None:
    scene = Scene(per_day=50)
    scene.deploy()
    scene.days(0, 2)
    monitor = run(scene, monitor_quality_refresh_s=3_600.0)
    assert read_all(monitor, 100).model is not None
    state_when(monitor, lambda s: s.experiment is not None)
    current = scene.models.current("fraud")
    assert current is not None
    scene.models.deploy(with_role(current, Role.SHADOW, CHALLENGER, 0.0, Author("somebody", NOW, "because")))
    state = state_when(monitor, lambda s: s.shadow is not None)
    assert state.experiment is None
    assert state.model is not None
    assert (state.model.challenger, state.model.shadow) == (None, CHALLENGER)
