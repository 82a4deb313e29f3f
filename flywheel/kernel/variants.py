"""Whether a smaller form of a model still decides as the model does, where it matters: next to the thresholds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.training import GateResult
from flywheel.kernel.declaration import CostPolicy
from flywheel.kernel.gates import NOT_MEASURED
from flywheel.kernel.policy import cheapest

Rows = NDArray[np.float32]
Score = Callable[[Rows], NDArray[np.float64]]

_GRID = 2_001
_HALVINGS = 40
_SAME = 1e-4


@dataclass(frozen=True)
class Tolerance:
    """How far a variant may be from its model, as a difference of scores and in decisions.

    Of rows whose scores are closer to a threshold than `margin` no decision is asked: there either action is as good.
    """

    difference: float = 0.01
    margin: float = 0.002
    flips: int = 0


def judge_variant(
    original: Score, variant: Score, rows: Rows, policy: CostPolicy, amounts: Sequence[float], tolerance: Tolerance
) -> tuple[GateResult, ...]:
    """The gates of a variant. What cannot be measured fails: no rows, no threshold between them, a score of NaN."""
    thresholds = sorted({threshold for amount in amounts for threshold in thresholds_of(policy, amount)})
    near = adjacent(original, rows, thresholds, tolerance.margin)
    judged = np.concatenate([rows, near])
    theirs, its = original(judged), variant(judged)
    difference = float(np.max(np.abs(theirs - its))) if len(judged) else float("nan")
    beside = float(np.max(np.abs(its - _alone(variant, judged)))) if len(judged) else float("nan")
    flips = _flips(theirs, its, policy, amounts, tolerance.margin) if len(near) else NOT_MEASURED
    return (
        GateResult(
            name="variant_difference",
            passed=bool(difference <= tolerance.difference),
            value=difference if np.isfinite(difference) else NOT_MEASURED,
            demand=f"<= {tolerance.difference:g} on {len(judged)} rows",
        ),
        GateResult(
            name="variant_alone",
            passed=bool(beside <= _SAME),
            value=beside if np.isfinite(beside) else NOT_MEASURED,
            demand=f"<= {_SAME:g} between a row's score alone and beside others",
        ),
        GateResult(
            name="variant_flips",
            passed=bool(len(near)) and 0 <= flips <= tolerance.flips,
            value=float(flips),
            demand=f"<= {tolerance.flips} other actions, {len(near)} of the rows next to a threshold",
        ),
    )


def _alone(score: Score, rows: Rows) -> NDArray[np.float64]:
    return np.concatenate([score(row[None]) for row in rows])


def thresholds_of(policy: CostPolicy, amount: float) -> list[float]:
    """The scores at which the action changes for that amount."""
    grid = np.linspace(0.0, 1.0, _GRID)
    actions = [cheapest(policy, float(score), amount) for score in grid]
    changes = zip(actions, actions[1:], grid, grid[1:], strict=False)
    return [float(low + high) / 2 for before, after, low, high in changes if before != after]


def adjacent(score: Score, rows: Rows, thresholds: Sequence[float], distance: float) -> Rows:
    """Rows between the given ones whose scores lie `distance` below and above the thresholds, as near as can be had."""
    if len(rows) < 2:
        return rows[:0]
    order = np.argsort(score(rows), kind="stable")
    low, high = rows[order[:-1]], rows[order[1:]]
    # Also the longest way of all: neighbours in score may have nothing between them.
    low, high = np.concatenate([low, rows[order[:1]]]), np.concatenate([high, rows[order[-1:]]])
    targets = [t + side * distance for t in thresholds for side in (-1, 1) if 0 < t + side * distance < 1]
    found = [_crossing(score, low, high, target) for target in targets]
    return np.concatenate([rows[:0], *found])


def _crossing(score: Score, low: Rows, high: Rows, target: float) -> Rows:
    """Where the score crosses the target on the way from `low` to `high`, for those pairs that lie on both sides."""
    crosses = (score(low) < target) & (score(high) >= target)
    below, above = low[crosses], high[crosses]
    if not len(below):
        return below
    for _ in range(_HALVINGS):
        middle = ((below + above) / 2).astype(np.float32)
        is_above = (score(middle) >= target)[:, None]
        below, above = np.where(is_above, below, middle), np.where(is_above, middle, above)
    return np.concatenate([below, above])


def _flips(
    theirs: NDArray[np.float64],
    its: NDArray[np.float64],
    policy: CostPolicy,
    amounts: Sequence[float],
    margin: float,
) -> int:
    return sum(
        cheapest(policy, float(a), amount) != cheapest(policy, float(b), amount)
        for amount in amounts
        for a, b in zip(theirs, its, strict=True)
        if not _is_open(policy, float(a), amount, margin)
    )


def _is_open(policy: CostPolicy, score: float, amount: float, margin: float) -> bool:
    """Whether the score is clearly closer to a threshold of that amount than the margin."""
    below, above = max(score - margin / 2, 0.0), min(score + margin / 2, 1.0)
    return cheapest(policy, below, amount) != cheapest(policy, above, amount)
