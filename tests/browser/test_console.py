"""The console page in a real browser: the numbers of the state are on it, and its scripts raise nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from flywheel.contracts.decisions import Fallback, Step
from flywheel.contracts.models import Role
from flywheel.contracts.parity import FeatureMismatches, MismatchExample
from services.monitor.state import State
from tests.browser_pages import needs_browser, opened, served, text_of
from tests.monitor_scene import NOW, Scene

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
