"""The command line: what is typed wrong is answered in a sentence with the way out."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flywheel.adapters.kafka_residue import Residue
from flywheel.client.commands import main
from flywheel.client.console import render_decision, render_erasure, render_training
from flywheel.client.erasure import Report
from flywheel.client.fields import from_text, parse_fields
from flywheel.contracts.events import to_us
from flywheel.contracts.proto.decision_pb2 import DecideResponse, FeatureValue
from flywheel.contracts.training import TrainingFinished, TrainingRequested
from flywheel.kernel import catalog
from flywheel.kernel.gates import Demands, Evidence, Soundness, judge
from tests import ranking_declaration
from usecases.fraud.events import Transaction

_AT = "event_time=2018-04-01T00:00:31Z"


@pytest.fixture(autouse=True)
def _nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    # Port 1 is reserved and nobody listens there.
    monkeypatch.setenv("FLYWHEEL_INGEST_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("FLYWHEEL_SERVING_ADDRESS", "127.0.0.1:1")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("decide fraud amount", "not of the form field=value"),
        ("decide fraud amount=3", "has no field 'amount'; its fields are event_id"),
        ("decide nope", "there is no use case 'nope'"),
        ("decide fraud card_id=c1 terminal_id=t1 amount_cents=5", "the stream's present is not known, as ingest at"),
        (f"decide fraud card_id=c1 terminal_id=t1 amount_cents=5 {_AT}", "serving does not answer at 127.0.0.1:1"),
        ("send fraud refund", "has no event 'refund'; its events are transaction, chargeback"),
        ("send fraud transaction card_id=c1", "the stream's present is not known, as ingest at http://127.0.0.1:1"),
        (f"send fraud transaction card_id=c1 {_AT}", "ingest does not accept events at http://127.0.0.1:1"),
        ("replay fraud nowhere.csv", "there is no file nowhere.csv"),
        ("erase fraud person p1", "has no entity 'person'; its entities are card, terminal"),
        ("erase fraud card c1 t1", "the id of a card is given as CARD_ID"),
    ],
)
def test_failures_are_one_sentence(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_setting_that_cannot_be_read_is_told_by_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLYWHEEL_TRACING_SHARE", "much")
    assert main(["models", "fraud"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("flywheel models: FLYWHEEL_TRACING_SHARE: input should be a valid number")
    assert said.count("\n") == 1


def test_who_asks_a_use_case_that_ranks_for_a_decision_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = ranking_declaration.declared()
    monkeypatch.setattr(catalog, "load", lambda _: shop)
    assert main(["decide", "shop"]) == 1
    assert "POST its subject and candidates to 127.0.0.1:8082/v1/usecases/shop/rankings" in capsys.readouterr().err


def test_speedup_needs_a_recorded_pace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("")
    assert main(["replay", "fraud", str(path), "--speedup", "3"]) == 1
    assert "--pace recorded" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["", "fly", "replay fraud f.csv --pace slow", "train fraud --timeout 0"])
def test_misuse_exits_with_2_and_usage(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(line.split())
    assert exit_.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["world", "decide", "send", "replay", "train", "erase"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert "usecase" in capsys.readouterr().out


def test_values_take_the_type_of_their_field() -> None:
    fields = parse_fields(Transaction, ["card_id=12", "amount_cents=34"])
    assert fields == {"card_id": "12", "amount_cents": 34}
    assert from_text(Transaction, "amount_cents", "many") == "many"


def test_a_decision_fits_on_a_screen_with_all_that_matters() -> None:
    response = DecideResponse(
        decision_id="d-1",
        action="step_up",
        score=0.25,
        reasons=["amount_high"],
        model_version="v7",
        arm="challenger",
        fallback="none",
        features=[FeatureValue(name="card_transaction_count_1h", value=3)],
        feature_status={"card": "fresh", "terminal": "stale"},
        feature_lag_ms=3_052.4,
        stage_ms={"policy": 0.125, "model": 0.25, "features": 0.5},
    )
    screen = render_decision(catalog.load("fraud"), response)
    for words in ("STEP_UP", "0.2500", "amount_high", "v7, challenger arm", "card fresh, terminal stale"):
        assert words in screen
    assert "terminal stale; 3,052 ms behind the accepted events (bound 10,000 ms)\n" in screen
    lines = {line.split()[0]: line.split() for line in screen.splitlines() if line}
    assert lines["card_transaction_count_1h"] == ["card_transaction_count_1h", "3"]
    assert lines["model"] == ["model", "0.250", "15"]
    assert lines["total"] == ["total", "0.875", "50"]
    assert "fallback" not in screen


@pytest.mark.parametrize(
    ("deployed", "error", "code", "words"),
    [
        (True, None, 0, "v3 is deployed"),
        (False, None, 0, "registered, not deployed"),
        (False, "no labels", 1, "training failed: no labels"),
    ],
)
def test_training_fails_only_when_the_run_did(
    deployed: bool,
    error: str | None,
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)

    async def trained(*_: object, **__: object) -> tuple[TrainingRequested, TrainingFinished]:
        request = TrainingRequested(request_id="r", requested_at=at, reason="a test")
        return request, TrainingFinished(request_id="r", finished_at=at, version="v3", deployed=deployed, error=error)

    monkeypatch.setattr("flywheel.client.commands.train", trained)
    assert main(["train", "fraud", "--wait"]) == code
    assert words in capsys.readouterr().out


def test_training_that_takes_too_long_is_a_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unfinished(*_: object, **__: object) -> tuple[TrainingRequested, None]:
        return TrainingRequested(request_id="r", requested_at=datetime(2026, 1, 1, tzinfo=UTC), reason="a test"), None

    monkeypatch.setattr("flywheel.client.commands.train", unfinished)
    assert main(["train", "fraud", "--wait"]) == 1
    assert "has not finished" in capsys.readouterr().err


@pytest.mark.parametrize("total", [{}, {"total": 9.0}])
def test_stages_are_shown_in_the_order_in_which_they_run(total: dict[str, float]) -> None:
    response = DecideResponse(feature_lag_ms=-1, stage_ms={**total, "policy": 3, "later": 4, "model": 2, "features": 1})
    lines = render_decision(catalog.load("fraud"), response).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("stage "))
    assert [line.split()[0] for line in lines[start + 1 : start + 6]] == [
        "features",
        "model",
        "policy",
        "later",
        "total",
    ]
    assert "unknown how far behind the accepted events" in "\n".join(lines)


def _training(average_precision: float, *, deployed: bool = False, error: str | None = None) -> TrainingFinished:
    evidence = Evidence(90, average_precision, 0.7215, None, Soundness(0.002, 1.1, 1e-7, 0.05))
    return TrainingFinished(
        request_id="r",
        finished_at=datetime(2026, 1, 1, tzinfo=UTC),
        version="v3",
        deployed=deployed,
        gates=judge(evidence, Demands(), model_budget_ms=15),
        error=error,
    )


@pytest.mark.parametrize(
    ("finished", "last"),
    [
        (_training(0.75, deployed=True), "model v3 is deployed: average precision 0.750 (baseline 0.722)"),
        (
            _training(0.5),
            "registered, not deployed: model v3, failed beats_baseline; average precision 0.500 (baseline 0.722)",
        ),
        (_training(math.nan), "registered, not deployed: model v3, failed beats_baseline"),
        (_training(0.75, error="no\nlabels"), "training failed: no labels"),
    ],
)
def test_the_outcome_of_a_training_is_the_last_line_below_its_gates(finished: TrainingFinished, last: str) -> None:
    lines = render_training(finished).splitlines()
    assert lines[0].split() == ["gate", "value", "demand"]
    assert lines[2].split()[0] == "beats_baseline"
    assert lines[-2:] == ["", last]


def test_an_erasure_tells_what_went_and_what_the_broker_still_holds() -> None:
    residue = [Residue("fraud.decisions", 2, 9, None), Residue("fraud.events.transaction", 0, 9, None)]
    kept = Residue("fraud.events.chargeback", 3, 9, to_us(datetime(2026, 5, 1, 12, 30, tzinfo=UTC)))
    report = Report({"online store": 1, "lake: transaction": 40}, [*residue, kept])
    screen = render_erasure(report, "card c1", dry_run=False)
    cells = [line.split() for line in screen.splitlines()]
    assert ["lake:", "transaction", "40"] in cells
    assert ["fraud.decisions", "2", "never"] in cells
    assert ["fraud.events.chargeback", "3", "2026-05-01", "12:30", "UTC"] in cells
    assert "fraud.events.transaction" not in screen
    assert screen.endswith("card c1 is erased. What arrives from now on is a new relation.")


def test_a_look_before_an_erasure_says_that_nothing_went() -> None:
    screen = render_erasure(Report({"online store": 1}), "card c1", dry_run=True)
    assert "would be deleted" in screen
    assert screen.endswith("Nothing was deleted: card c1 is still there.")
    assert "is erased" not in screen


def test_a_stream_far_behind_is_told() -> None:
    assert "far behind" in render_erasure(Report(stream_waited=False), "card c1", dry_run=False)
    assert "holds no record" in render_erasure(Report(residue=[Residue("t", 0, 9, None)]), "card c1", dry_run=False)


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = """
import sys
from flywheel.client import commands
commands._train = lambda options, settings: commands._say("trained") or 0
sys.exit(commands.main(["train", "fraud"]))
"""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as broken:
        ended = subprocess.run([sys.executable, "-c", command], stdout=broken, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
