"""The console page in a real browser: the numbers of the state are on it, and its scripts raise nothing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from flywheel.contracts.decisions import Fallback, Step
from flywheel.contracts.models import Role
from flywheel.contracts.parity import FeatureMismatches, MismatchExample
from flywheel.kernel.deployment import Author, rolled_back, with_role
from services.monitor.state import State
from tests.browser_pages import needs_browser, opened, served, text_of
from tests.monitor_scene import CHALLENGER, NOW, Scene

pytestmark = needs_browser


def test_the_numbers_of_the_state_are_on_the_page(tmp_path: Path) -> None:
    scene = Scene(per_day=300)
    scene.deploy()
    scene.days(0, 14)
    scene.training_run()
    monitor = scene.monitor(data_dir=tmp_path)
    with served(monitor) as address:
        state = monitor.watch.state
        page, console = opened(address, tmp_path / "profile")
    text = text_of(page)
    assert console == ""
    assert state.experiment is not None
    assert state.quality.auc is not None
    for expected in (
        "Card-fraud detection",
        "simulated data",
        f"{state.loop.events:,}",
        f"{state.quality.decisions:,} matured decisions",
        f"{state.quality.auc:.3f}",
        state.experiment.verdict,
        "lightgbm v3",
        "feature drifted" if sum(v.drifted for v in state.drift.variables) == 1 else "features drifted",
        "onnx parity",
        state.last_decisions[0].unit,
        "of event time",
        "all logged",
    ):
        assert expected in text, f"{expected!r} is not on the page"
    assert page.count("<svg") >= 6


@pytest.mark.parametrize("differs", [False, True])
def test_parity_is_told_in_totals_and_what_differs_by_feature(tmp_path: Path, differs: bool) -> None:
    scene = Scene(per_day=50)
    example = MismatchExample(event_id="tx-77", decided_at=NOW, online=12.5, offline=11.0)
    wrong = FeatureMismatches(
        feature="terminal_risk_7d", mismatches=96, worst_absolute=1.5, worst_relative=0.12, example=example
    )
    scene.compare(*[wrong] if differs else [])
    with served(scene.monitor(data_dir=tmp_path)) as address:
        page, console = opened(address, tmp_path / "profile")
    text = text_of(page)
    assert console == ""
    assert "Parity: online = offline" in text
    assert "731 values could not be decided upon; of 25 stale ones 2 differed" in text
    assert "decisions passed over: 3 event not archived" in text
    assert ("0 of 48,000 values in 1,950 decisions differ." in text) is not differs
    row = "terminal_risk_7d 96 1.5 12.0 % 12.5 11 tx-77 12:00:00"
    assert (row in text) is differs
    totals = "96 of 48,000 values in 1,950 decisions differ (0.200 %; a model is promoted up to 0.1 %)."
    assert (totals in text) is differs


@pytest.mark.parametrize("young", [False, True])
def test_an_empty_or_young_loop_tells_what_is_awaited(tmp_path: Path, young: bool) -> None:
    scene = Scene(per_day=50)
    if young:
        scene.days(0, 1)
    with served(scene.monitor(data_dir=tmp_path)) as address:
        page, console = opened(address, tmp_path / "profile")
    text = text_of(page)
    assert console == ""
    assert "No model is deployed yet" in text
    assert "No decision has been compared yet." in text
    assert ("No matured decision yet: the first matures at event time 2018-06-08" in text) is young
    assert ("No decision yet: they appear as soon as somebody asks serving" in text) is not young


@pytest.mark.parametrize("step", [Step.RULE, None])
def test_the_head_says_that_most_decisions_fall_back(tmp_path: Path, step: Step | None) -> None:
    scene = Scene(per_day=50)
    scene.deploy()
    for number in range(200):
        scene.decide(Role.CHAMPION, f"c{number}", Fallback.FEATURES_STALE, step=step, seconds_ago=10)
    with served(scene.monitor(data_dir=tmp_path)) as address:
        page, console = opened(address, tmp_path / "profile")
    assert console == ""
    how = "by the rule" if step else "not as declared"
    assert f"live, {how}: 100.0 % fall back" in text_of(page)


def deployed_as(scene: Scene, role: Role, version: str, share: float = 0.0) -> None:
    current = scene.models.current("fraud")
    assert current is not None
    author = Author("somebody", NOW - timedelta(minutes=5), "because")
    scene.models.deploy(with_role(current, role, version, share, author))


@pytest.mark.parametrize("leads", [True, False])
def test_canary_and_shadow_are_on_the_page(tmp_path: Path, leads: bool) -> None:
    scene = Scene(per_day=50)
    scene.deploy(challenger=False)
    deployed_as(scene, Role.SHADOW, CHALLENGER)
    deployed_as(scene, Role.CANARY, "v5", 0.05)
    scene.decide(Role.CANARY, "c1", Fallback.MODEL_UNAVAILABLE)
    with served(scene.monitor(data_dir=tmp_path, monitor_leads_canaries=leads)) as address:
        page, console = opened(address, tmp_path / "profile")
    text = text_of(page)
    assert console == ""
    for expected in (
        "No challenger is deployed: 5.0 % of the traffic goes to the canary, the rest to the champion.",
        "Canary v5 · 5.0 % of the traffic",
        "This step: 1 of 1,000 decisions, 5 min of 10 min; next step: 25.0 % of the traffic.",
        "Not by its model: 100.0 % of the answers, too late: 0 requests; champion: –, 0.",
        "Guard: too few decisions yet to judge it." if leads else "This monitor only watches it",
        "Shadow v4 · scores along, answers nothing",
        "No score of it yet.",
    ):
        assert expected in text, f"{expected!r} is not on the page"


def test_an_experiment_with_few_decisions_shows_no_shares(tmp_path: Path) -> None:
    scene = Scene(per_day=50)
    scene.deploy()
    for number in range(12):
        scene.decide(Role.CHALLENGER, f"c{number}", Fallback.NONE)
    with served(scene.monitor(data_dir=tmp_path)) as address:
        page, console = opened(address, tmp_path / "profile")
    text = text_of(page)
    assert console == ""
    assert "Too few decisions yet: nothing is said about the split or the arms." in text
    assert "Too few decisions yet to check the split: they are of 12 cards, 150 are needed." in text
    assert "sample-ratio check" not in text


def test_what_was_withdrawn_is_on_the_page_with_the_reason(tmp_path: Path) -> None:
    scene = Scene(per_day=50)
    scene.deploy(challenger=False)
    deployed_as(scene, Role.CANARY, "v5", 0.05)
    current = scene.models.current("fraud")
    assert current is not None
    scene.models.deploy(rolled_back([current], Author("somebody", NOW, "it was slow")))
    with served(scene.monitor(data_dir=tmp_path)) as address:
        page, console = opened(address, tmp_path / "profile")
    text = text_of(page)
    assert console == ""
    assert "No challenger is deployed: all traffic goes to the champion." in text
    assert "Withdrawn v5 · no traffic" in text
    assert "Taken back at 2026-05-04 12:00 UTC by somebody: it was slow" in text


def test_a_gate_that_was_not_measured_has_no_tick(tmp_path: Path) -> None:
    scene = Scene(per_day=50)
    scene.training_run()
    with served(scene.monitor(data_dir=tmp_path)) as address:
        page, console = opened(address, tmp_path / "profile")
    text = text_of(page)
    assert console == ""
    assert "✓ onnx parity" in text
    assert "– feature parity – (not measured yet)" in text


def test_an_error_in_a_script_would_be_seen(tmp_path: Path) -> None:
    scene = Scene()
    monitor = scene.monitor(data_dir=tmp_path)
    broken = State.model_validate(monitor.watch.state.model_dump()).model_dump()
    del broken["loop"]
    monitor.app.router.routes[:] = [r for r in monitor.app.router.routes if getattr(r, "path", "") != "/api/state"]
    monitor.app.add_api_route("/api/state", lambda: broken)
    with served(monitor) as address:
        _, console = opened(address, tmp_path / "profile")
    assert "TypeError" in console
