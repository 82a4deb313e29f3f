"""Counts of compared values, and the report that they make."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from flywheel.contracts.parity import FeatureMismatches, MismatchExample, ParityReport
from flywheel.kernel.parity import is_same


@dataclass
class Tally:
    """What became of the sampled decisions and of their values."""

    decisions: int = 0
    values: int = 0
    undecidable: int = 0
    stale_values: int = 0
    stale_mismatches: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    mismatched: dict[str, FeatureMismatches] = field(default_factory=dict)

    @property
    def mismatches(self) -> int:
        return sum(feature.mismatches for feature in self.mismatched.values())

    def compare(self, feature: str, example: MismatchExample, *, stale: bool) -> None:
        """One value, as it was served and as it is computed again."""
        same = is_same(example.online, example.offline)
        if stale:
            self.stale_values += 1
            self.stale_mismatches += not same
            return
        self.values += 1
        if not same:
            self._note(_mismatch(feature, example))

    def add(self, other: Tally) -> None:
        """Takes in another's counts."""
        for name in ("decisions", "values", "undecidable", "stale_values", "stale_mismatches"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.skipped.update(other.skipped)
        for mismatches in other.mismatched.values():
            self._note(mismatches)

    def _note(self, found: FeatureMismatches) -> None:
        known = self.mismatched.get(found.feature)
        if known is not None:
            worse = max(known, found, key=lambda each: (each.worst_relative, each.worst_absolute))
            found = worse.model_copy(
                update={
                    "mismatches": known.mismatches + found.mismatches,
                    "worst_absolute": max(known.worst_absolute, found.worst_absolute),
                }
            )
        self.mismatched[found.feature] = found


def total(tallies: Iterable[Tally]) -> Tally:
    """All of them together."""
    found = Tally()
    for tally in tallies:
        found.add(tally)
    return found


def report(usecase: str, tally: Tally, moments: Sequence[datetime]) -> ParityReport:
    """The report of decisions made at these moments, at least one."""
    ranked = sorted(tally.mismatched.values(), key=lambda each: (-each.mismatches, each.feature))
    return ParityReport(
        usecase=usecase,
        since=min(moments),
        until=max(moments),
        decisions=tally.decisions,
        values=tally.values,
        undecidable=tally.undecidable,
        stale_values=tally.stale_values,
        stale_mismatches=tally.stale_mismatches,
        skipped=dict(tally.skipped),
        mismatched=tuple(ranked),
    )


def _mismatch(feature: str, example: MismatchExample) -> FeatureMismatches:
    apart = abs(example.online - example.offline)
    if not math.isfinite(apart):
        # Where one alone is NaN, or infinite, nothing is further apart.
        absolute = relative = math.inf
    else:
        absolute, relative = apart, apart / max(abs(example.online), abs(example.offline))
    return FeatureMismatches(
        feature=feature, mismatches=1, worst_absolute=absolute, worst_relative=relative, example=example
    )
