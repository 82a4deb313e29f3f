"""Renders answers for a person at a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flywheel.adapters.kafka_residue import Residue
from flywheel.client.erasure import Report
from flywheel.contracts.events import from_us
from flywheel.contracts.proto.decision_pb2 import DecideResponse
from flywheel.contracts.training import GateResult, TrainingFinished
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.durations import parse_duration
from flywheel.kernel.gates import BEATS_BASELINE, NOT_MEASURED

_STAGES = ("features", "model", "policy")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """Rows under a header in columns; `right` are the columns that are aligned to the right.

    >>> print(table(("what", "n"), [("cards", "12"), ("tills", "7")], frozenset({1})))
    what    n
    cards  12
    tills   7
    """
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def render_decision(usecase: UseCase, response: DecideResponse) -> str:
    """A decision on one screen: what, why, by which model, from which features, in what time."""
    model = response.model_version or "none"
    fallback = "" if response.fallback in ("", "none") else f"  (fallback: {response.fallback})"
    behind = "unknown how far" if response.feature_lag_ms < 0 else f"{response.feature_lag_ms:,.0f} ms"
    lag = f"{behind} behind the accepted events (bound {parse_duration(usecase.freshness) / 1_000:,.0f} ms)"
    statuses = ", ".join(f"{view} {status}" for view, status in sorted(response.feature_status.items())) or "none read"
    features = [(feature.name, f"{feature.value:,.6g}") for feature in response.features]
    parts = [
        f"{response.action.upper()}  score {response.score:.4f}",
        f"reasons   {', '.join(response.reasons) or 'none'}",
        f"model     {model}, {response.arm or 'no'} arm{fallback}",
        f"features  {statuses}; {lag}",
        f"decision  {response.decision_id}",
        "",
        _stage_table(usecase, response),
        *_contributions(response),
        "",
        table(("feature", "value"), features, frozenset({1})),
    ]
    return "\n".join(parts)


def _contributions(response: DecideResponse) -> list[str]:
    if response.unexplained:
        return ["", f"no explanation: {response.unexplained.replace('_', ' ')}"]
    if not response.contributions:
        return []
    log_odds = math.log(response.score / (1 - response.score)) if 0 < response.score < 1 else math.nan
    others = log_odds - response.contribution_base - sum(part.value for part in response.contributions)
    values = {feature.name: f"{feature.value:,.6g}" for feature in response.features}
    rows = [
        ("(knowing nothing)", "", f"{response.contribution_base:+.3f}"),
        *((part.feature, values.get(part.feature, ""), f"{part.value:+.3f}") for part in response.contributions),
        ("(all others)", "", f"{others:+.3f}"),
        ("log-odds of the score", "", f"{log_odds:+.3f}"),
    ]
    return ["", table(("moves the score", "value", "log-odds"), rows, frozenset({1, 2}))]


def _stage_table(usecase: UseCase, response: DecideResponse) -> str:
    budget = {
        "features": usecase.budget.features_ms,
        "model": usecase.budget.model_ms,
        "total": usecase.budget.total_ms,
    }
    taken = dict(response.stage_ms)
    taken.setdefault("total", sum(taken.values()))
    # The map of a protobuf message has no order of its own.
    others = sorted(set(taken) - {*_STAGES, "total"})
    rows = [
        (stage, f"{taken[stage]:.3f}", f"{budget[stage]:g}" if stage in budget else "")
        for stage in (*_STAGES, *others, "total")
        if stage in taken
    ]
    return table(("stage", "ms", "budget"), rows, frozenset({1, 2}))


def render_erasure(report: Report, subject: str, *, dry_run: bool) -> str:
    """What went from where, what the broker still holds and until when, and what is not of a person."""
    rows = [(place, str(number)) for place, number in report.removed.items()]
    parts = [table(("place", "would be deleted" if dry_run else "deleted"), rows, frozenset({1}))]
    held = [(found.topic, str(found.records), _gone_by(found)) for found in report.residue if found.records]
    if held:
        parts += ["", table(("still in the broker's log", "records", "deleted there by"), held, frozenset({1}))]
        parts.append("Single records cannot be deleted there; no reader takes them in any more." if not dry_run else "")
    elif report.residue:
        parts += ["", "The broker's log holds no record of it."]
    if dry_run:
        return "\n".join([*parts, f"Nothing was deleted: {subject} is still there."])
    if not report.stream_waited:
        parts.append("The features service is far behind; give the command again once it has caught up.")
    parts += [
        "A running monitor forgets within seconds. Counts of other entities and models keep their numbers, which name",
        "nobody. Spark's state of the stream keeps the events' ids until its watermark has passed them.",
        f"{subject} is erased. What arrives from now on is a new relation.",
    ]
    return "\n".join(parts)


def _gone_by(found: Residue) -> str:
    return "never" if found.gone_by_us is None else f"{from_us(found.gone_by_us):%Y-%m-%d %H:%M} UTC"


def render_training(finished: TrainingFinished) -> str:
    """How a training run ended: gate by gate, and in one sentence, which is the last line."""
    rows = [(gate.name, _result(gate), _measured(gate), gate.demand) for gate in finished.gates]
    outcome = _outcome(finished)
    return outcome if not rows else f"{table(('gate', '', 'value', 'demand'), rows, frozenset({2}))}\n\n{outcome}"


def _result(gate: GateResult) -> str:
    if not gate.passed:
        return "FAILED"
    return "not measured" if gate.value == NOT_MEASURED else "passed"


def _measured(gate: GateResult) -> str:
    return "–" if gate.value == NOT_MEASURED else f"{gate.value:.6g}"


def _outcome(finished: TrainingFinished) -> str:
    if finished.error:
        return f"training failed: {' '.join(finished.error.split())}"
    precision = _precision(finished.gates)
    if finished.deployed:
        return f"model {finished.version} is deployed" + (f": {precision}" if precision else "")
    failed = ", ".join(gate.name for gate in finished.gates if not gate.passed)
    reason = f"failed {failed}" if failed else "it did not pass every gate"
    return f"registered, not deployed: model {finished.version}, {reason}" + (f"; {precision}" if precision else "")


def _precision(gates: Sequence[GateResult]) -> str:
    """What the comparison with the baseline measured; empty when it measured nothing."""
    gate = next((gate for gate in gates if gate.name == BEATS_BASELINE), None)
    if gate is None or gate.value == NOT_MEASURED:
        return ""
    return f"average precision {gate.value:.3f} (baseline {float(gate.demand.removeprefix('> ')):.3f})"
