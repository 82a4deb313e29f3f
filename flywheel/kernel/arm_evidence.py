"""What is known of one arm's decisions, by which it is compared with another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ArmSeen:
    """One arm's decisions since the step began, an entry a decision, in the order in which they were heard of.

    What a decision cannot tell is NaN, or an empty action.
    """

    at_us: NDArray[np.int64]
    """When it was begun with."""
    unit: NDArray[np.int64]
    """Whom it was about, as any number that tells units apart; of no meaning where there is no score."""
    failed: NDArray[np.bool_]
    """Whether the model gave no score."""
    late: NDArray[np.bool_]
    """Whether the time was over, before the model was run or before its answer was given."""
    model_ms: NDArray[np.float64]
    """What the model took, late or not."""
    score: NDArray[np.float64]
    action: NDArray[np.str_]
    """Empty where nothing was answered."""
    run: NDArray[np.int64]
    """Any number that tells runs of the model apart."""
    thinned: int = 1
    """One of so many runs is here; the others were left out by chance."""

    def __len__(self) -> int:
        return int(self.unit.size)

    @property
    def decisions(self) -> int:
        """How many there were, those included that were left out."""
        return len(self) * self.thinned

    def where(self, mask: NDArray[np.bool_]) -> ArmSeen:
        """Only the decisions of the mask."""
        columns = [each.name for each in fields(self) if each.name != "thinned"]
        return ArmSeen(**{name: getattr(self, name)[mask] for name in columns}, thinned=self.thinned)


class Seen(NamedTuple):
    """One entry of an `ArmSeen`."""

    at_us: int
    unit: int
    failed: bool
    late: bool
    model_ms: float
    score: float
    action: str
    run: int


def arm_of(entries: Sequence[Seen], thinned: int = 1) -> ArmSeen:
    """The entries as columns."""
    columns = list(zip(*entries, strict=True)) or [()] * len(Seen._fields)
    at_us, unit, failed, late, model_ms, score, action, run = columns
    return ArmSeen(
        np.array(at_us, np.int64),
        np.array(unit, np.int64),
        np.array(failed, np.bool_),
        np.array(late, np.bool_),
        np.array(model_ms, np.float64),
        np.array(score, np.float64),
        np.array(action, np.str_),
        np.array(run, np.int64),
        thinned,
    )


def in_common(champion: ArmSeen, canary: ArmSeen) -> tuple[ArmSeen, ArmSeen]:
    """Both arms' decisions of the time in which there are decisions of both.

    What one arm alone has seen, such as a cold start or a minute of overload, says nothing about the other.
    """
    if not len(champion) or not len(canary):
        return champion.where(np.zeros(len(champion), bool)), canary.where(np.zeros(len(canary), bool))
    since_us = max(champion.at_us.min(), canary.at_us.min())
    until_us = min(champion.at_us.max(), canary.at_us.max())
    first, second = (arm.where((arm.at_us >= since_us) & (arm.at_us <= until_us)) for arm in (champion, canary))
    return first, second


class Runs(NamedTuple):
    """One arm's runs, an entry a run: what became of one of its decisions, drawn by chance, and the run's time; NaN
    where no time is known.

    Decisions of a run are no evidence of their own, but may differ: each caller has a deadline. Counting a run as late
    when any of its decisions is would make an arm look the worse, the more decisions its runs serve.
    """

    failed: NDArray[np.bool_]
    late: NDArray[np.bool_]
    model_ms: NDArray[np.float64]
    served: NDArray[np.int64]


def runs_of(arm: ArmSeen) -> Runs:
    """The runs that these decisions are of. The draw is the same for the same decisions."""
    order = np.argsort(arm.run, kind="stable")
    run, starts, served = np.unique(arm.run[order], return_index=True, return_counts=True)
    if not starts.size:
        return Runs(arm.failed, arm.late, arm.model_ms, served)
    drawn = order[starts + _draw(run, served)]
    # A run that failed says nothing of how long one takes that does not.
    model_ms = np.where(arm.failed, np.nan, arm.model_ms)[order]
    return Runs(arm.failed[drawn], arm.late[drawn], np.fmax.reduceat(model_ms, starts), served)


def _draw(run: NDArray[np.int64], served: NDArray[np.int64]) -> NDArray[np.int64]:
    """A place among those that each run served, by the run's number alone, whatever became of them."""
    # The upper half of a product (Knuth): where runs are thinned, the lower digits of their numbers are all the same.
    mixed = (run.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    return (mixed % served.astype(np.uint64)).astype(np.int64)
