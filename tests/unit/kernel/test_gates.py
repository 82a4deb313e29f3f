"""Each gate can fail, alone, and what cannot be measured does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flywheel.contracts.parity import FeatureMismatches, MismatchExample, ParityReport
from flywheel.contracts.training import GateResult
from flywheel.kernel.gates import (
    NOT_MEASURED,
    Demands,
    Evidence,
    Soundness,
    all_passed,
    judge,
    judge_parity,
    judge_soundness,
)

GOOD = Evidence(
    validation_positives=30,
    average_precision=0.7,
    baseline_average_precision=0.6,
    lead_over_champion=0.0,
    soundness=Soundness(calibration_error=0.01, observed_to_expected=1.0, parity=1e-5, score_ms=15.0),
)
BUDGET_MS = 15.0


def changed(**changes: Any) -> Evidence:
    own = {name: changes.pop(name) for name in list(changes) if hasattr(GOOD.soundness, name)}
    return replace(GOOD, soundness=replace(GOOD.soundness, **own), **changes)


def failed(**changes: Any) -> list[str]:
    return [gate.name for gate in judge(changed(**changes), Demands(), BUDGET_MS) if not gate.passed]


def test_evidence_on_every_bound_passes() -> None:
    gates = judge(GOOD, Demands(), BUDGET_MS)
    assert all_passed(gates)
    assert len(gates) == 7


@pytest.mark.parametrize(
    ("gate", "changes"),
    [
        ("enough_positives", {"validation_positives": 29}),
        ("beats_baseline", {"baseline_average_precision": 0.7}),
        ("not_behind_champion", {"lead_over_champion": -0.0001}),
        ("calibration_error", {"calibration_error": 0.0101}),
        ("observed_to_expected", {"observed_to_expected": 2.01}),
        ("observed_to_expected", {"observed_to_expected": 0.49}),
        ("onnx_parity", {"parity": 1.1e-5}),
        ("score_ms", {"score_ms": 15.1}),
    ],
)
def test_each_gate_fails_alone(gate: str, changes: dict[str, float]) -> None:
    assert failed(**changes) == [gate]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("field", "gate"),
    [
        ("calibration_error", "calibration_error"),
        ("observed_to_expected", "observed_to_expected"),
        ("parity", "onnx_parity"),
        ("score_ms", "score_ms"),
    ],
)
def test_what_is_no_number_does_not_pass(field: str, gate: str, value: float) -> None:
    assert failed(**{field: value}) == [gate]


@pytest.mark.parametrize("field", ["baseline_average_precision", "lead_over_champion"])
def test_a_rival_that_could_not_be_measured_is_not_beaten(field: str) -> None:
    assert len(failed(**{field: float("nan")})) == 1


def test_without_a_champion_there_is_no_gate_against_it() -> None:
    names = [gate.name for gate in judge(replace(GOOD, lead_over_champion=None), Demands(), BUDGET_MS)]
    assert "not_behind_champion" not in names


def test_a_model_alone_is_asked_for_parity_calibration_and_speed() -> None:
    names = {gate.name for gate in judge_soundness(GOOD.soundness, Demands(), BUDGET_MS)}
    assert names == {"calibration_error", "observed_to_expected", "onnx_parity", "score_ms"}
    assert all_passed(judge_soundness(GOOD.soundness, Demands(), BUDGET_MS))
    assert not all_passed(judge_soundness(replace(GOOD.soundness, parity=1.0), Demands(), BUDGET_MS))


def test_results_survive_the_wire() -> None:
    for gate in judge(changed(parity=float("nan")), Demands(), BUDGET_MS):
        assert GateResult.model_validate_json(gate.model_dump_json()) == gate
    parity = next(gate for gate in judge(changed(parity=float("nan")), Demands(), 1) if "parity" in gate.name)
    assert parity.value == NOT_MEASURED


def test_no_gates_are_no_pass() -> None:
    assert not all_passed(())


NOW = datetime(2026, 5, 4, tzinfo=UTC)


def compared(decisions: int, mismatches: int, *, values: int = 10_000, age_s: float = 60.0) -> ParityReport:
    at = NOW - timedelta(seconds=age_s)
    example = MismatchExample(event_id="e1", decided_at=at, online=2.0, offline=1.0)
    wrong = FeatureMismatches(
        feature="card_count_1h", mismatches=mismatches, worst_absolute=1.0, worst_relative=0.5, example=example
    )
    return ParityReport(
        usecase="fraud",
        since=at - timedelta(hours=1),
        until=at,
        decisions=decisions,
        values=values,
        undecidable=0,
        stale_values=500,
        stale_mismatches=500,
        skipped={},
        mismatched=(wrong,) if mismatches else (),
    )


def test_features_served_as_recomputed_pass_up_to_the_tolerated_share() -> None:
    assert judge_parity(compared(100, 10), Demands(), NOW).passed
    beyond = judge_parity(compared(100, 11), Demands(), NOW)
    assert not beyond.passed
    assert beyond.value == 0.0011
    assert "of 10000 in 100 decisions; most often card_count_1h" in beyond.demand


@pytest.mark.parametrize("report", [None, compared(99, 0), compared(99, 10), compared(500, 900, age_s=3_601)])
def test_what_was_not_measured_of_late_passes_and_says_so(report: ParityReport | None) -> None:
    gate = judge_parity(report, Demands(), NOW)
    assert (gate.passed, gate.value) == (True, NOT_MEASURED)
    assert gate.demand.startswith("not measured")


def test_mismatches_of_a_small_sample_do_not_pass() -> None:
    gate = judge_parity(compared(3, 11), Demands(), NOW)
    assert (gate.passed, gate.value) == (False, 0.0011)
