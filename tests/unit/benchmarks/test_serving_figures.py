"""How figures of serving are made of runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from benchmarks import figures, serving, serving_workers
from benchmarks.serving_bench import NotMeasured, highest
from benchmarks.serving_overload import figures_of, recovery_s
from benchmarks.serving_rates import _with_ratios
from benchmarks.serving_restarts import joined
from benchmarks.serving_workers import LAYOUTS, ONE_CORE, ONE_WORKER, TWO_CORES, Layout, _figures
from loadtests.generator.outcomes import Outcome, Run


def _run(
    seconds: float,
    per_s: int,
    *,
    latency_ms: float = 1.0,
    outcome: Outcome = Outcome.GOOD,
    bad: tuple[float, float] = (0, 0),
) -> Run:
    """Evenly spaced requests; those intended within `bad` are answered too late."""
    intended = np.arange(int(seconds * per_s)) / per_s
    latency_s = np.full(len(intended), latency_ms / 1e3)
    latency_s[(intended >= bad[0]) & (intended < bad[1])] = 0.2
    outcomes = np.full(len(intended), outcome, np.uint8)
    return Run(intended, intended, intended + latency_s, outcomes, seconds=seconds, cpu_share=0.1)


async def _search(true_rate: float, low: float, high: float, confirmed_below: float = math.inf) -> float:
    run = _run(1, 10)

    async def holds(rate: float) -> Run | None:
        return run if rate <= true_rate else None

    async def confirmed(rate: float) -> Run | None:
        return run if rate <= min(true_rate, confirmed_below) else None

    rate, _ = await highest(holds, confirmed, low, high)
    return rate


@pytest.mark.parametrize("true_rate", [300, 700, 1_000])
async def test_the_highest_rate_is_found_to_some_percent_and_never_above_what_holds(true_rate: float) -> None:
    found = await _search(true_rate, 250, 1_150)
    assert 0.95 * true_rate <= found <= true_rate


async def test_a_rate_that_does_not_hold_for_longer_is_lowered() -> None:
    assert await _search(1_000, 250, 1_150, confirmed_below=800) <= 800


async def test_no_rate_at_all_is_said() -> None:
    with pytest.raises(NotMeasured):
        await _search(1, 250, 1_150)


def test_recovery_is_until_the_last_bad_moment_after_the_load_fell() -> None:
    assert recovery_s(_run(10, 100), 5.0) == 0
    assert recovery_s(_run(10, 100, bad=(4.0, 6.25)), 5.0) == pytest.approx(1.3)
    # What went wrong before is overload and no matter of recovery.
    assert recovery_s(_run(10, 100, bad=(1.0, 4.0)), 5.0) == 0


def test_goodput_is_a_share_of_the_best_that_was_seen() -> None:
    calm = _run(15, 1_000)
    poor = _run(15, 1_000, bad=(2.0, 6.0))
    found = figures_of(1_000, 900, {2: calm, 5: poor}, 1.0)
    assert found["overload_peak_rps"] == 1_000
    assert found["overload_goodput_2x"] == pytest.approx(1, abs=0.01)
    assert found["overload_goodput_5x"] == pytest.approx(0.5, abs=0.01)
    assert found["overload_admitted_p99_ms"] == pytest.approx(200)
    assert found["refusal_p99_ms"] is None


def test_refusals_have_a_figure_of_their_own() -> None:
    found = figures_of(1_000, 900, {2: _run(15, 1_000, latency_ms=3, outcome=Outcome.REFUSED)}, 1.0)
    assert found["overload_goodput_2x"] == 0
    assert found["overload_admitted_p99_ms"] is None
    assert found["refusal_p99_ms"] == pytest.approx(3)


def test_ours_is_held_against_the_better_way_of_a_peer() -> None:
    found = _with_ratios(
        {"rps_ours": 3_000, "rps_fastapi_feast": 900, "rps_fastapi_feast_sync": 1_000, "rps_floor": None}
    )
    assert found["rps_vs_fastapi_feast"] == 3
    assert "rps_vs_floor" not in found


def test_runs_that_follow_each_other_are_one() -> None:
    whole = joined([_run(1, 100), _run(2, 100)])
    assert len(whole.outcome) == 300
    assert whole.intended_s[-1] == pytest.approx(2.99)
    assert whole.latency_ms(Outcome.GOOD).max() == pytest.approx(1)


def test_a_part_adds_its_figures_and_its_commit_to_those_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "FIGURES", tmp_path)
    serving.keep("rates", {"rps_ours": 1})
    serving.keep("overload", {"recovery_s": 0.5})
    kept = json.loads((tmp_path / "serving.json").read_text())["figures"]
    assert (kept["rps_ours"], kept["recovery_s"]) == (1, 0.5)
    assert kept["rates_commit"] == kept["overload_commit"] == figures.commit()[:12]
    assert kept["rank200_vs_feast"] is None


def test_two_workers_are_held_against_twice_one_on_half_of_the_cores_with_as_many_callers_a_worker() -> None:
    def runs(few: float, many: float) -> dict[int, dict[str, float]]:
        return {16: {"rps": few}, 64: {"rps": many}}

    first = {ONE_CORE: runs(5_000, 4_000), TWO_CORES: runs(8_000, 7_200), ONE_WORKER: runs(8_000, 6_000)}
    second = {ONE_CORE: runs(4_000, 4_000), TWO_CORES: runs(8_000, 5_600), ONE_WORKER: runs(8_000, 7_000)}
    found = _figures([first, second])
    assert (found["workers2_efficiency_lowest"], found["workers2_efficiency_highest"]) == (0.7, 1.0)
    assert (found["workers2_efficiency_at_16"], found["workers2_efficiency_at_64"]) == (0.9, 0.8)
    assert (found["workers2_efficiency"], found["workers2_rate_ratio"]) == (0.85, 1.0)
    assert (found["workers1_rps"], found["workers2_rps"], found["workers1_on_two_cores_rps"]) == (5_000, 8_000, 8_000)


def test_layouts_take_turns_in_who_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def run(_scene: object, _pace: object, layout: Layout) -> dict[int, dict[str, float]]:
        measured.append(layout)
        return {16: {"rps": 1.0}}

    monkeypatch.setattr(serving_workers, "_of", run)
    serving_workers.measure(Mock(), Mock())
    assert measured == [*LAYOUTS, *reversed(LAYOUTS)]
