"""Renders answers for a person at a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.contracts.proto.decision_pb2 import DecideResponse
from flywheel.contracts.training import TrainingFinished
from flywheel.kernel.declaration import UseCase


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
    lag = "unknown" if response.feature_lag_ms < 0 else f"{response.feature_lag_ms:.0f} ms behind the accepted events"
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
        "",
        table(("feature", "value"), features, frozenset({1})),
    ]
    return "\n".join(parts)


def _stage_table(usecase: UseCase, response: DecideResponse) -> str:
    budget = {
        "features": usecase.budget.features_ms,
        "model": usecase.budget.model_ms,
        "total": usecase.budget.total_ms,
    }
    taken = dict(response.stage_ms)
    taken.setdefault("total", sum(taken.values()))
    rows = [
        (stage, f"{ms:.3f}", f"{budget[stage]:g}" if stage in budget else "")
        for stage, ms in sorted(taken.items(), key=lambda item: item[0] == "total")
    ]
    return table(("stage", "ms", "budget"), rows, frozenset({1, 2}))


def render_training(finished: TrainingFinished) -> str:
    """How a training run ended, gate by gate."""
    if finished.error:
        outcome = f"training failed: {finished.error}"
    elif finished.deployed:
        outcome = f"model {finished.version} is deployed"
    else:
        outcome = f"model {finished.version} is registered, not deployed: it did not pass every gate"
    rows = [
        (gate.name, "passed" if gate.passed else "FAILED", f"{gate.value:.6g}", gate.demand) for gate in finished.gates
    ]
    return outcome if not rows else f"{outcome}\n\n{table(('gate', '', 'value', 'demand'), rows, frozenset({2}))}"
