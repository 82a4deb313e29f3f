"""Gates as a person reads them in a terminal."""

from __future__ import annotations

from datetime import UTC, datetime

from flywheel.client.console import render_training
from flywheel.contracts.training import TrainingFinished
from flywheel.kernel.gates import Demands, judge_parity


def test_a_gate_that_was_not_measured_shows_no_number() -> None:
    now = datetime(2026, 5, 4, tzinfo=UTC)
    gate = judge_parity(None, Demands(), now)
    finished = TrainingFinished(request_id="r", finished_at=now, version="v", deployed=True, gates=(gate,))
    row = render_training(finished).splitlines()[1]
    assert row.split()[:6] == ["feature_parity", "not", "measured", "–", "not", "measured"]
