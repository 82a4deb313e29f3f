"""Whether decisions were made on the features that their history says they had."""

from __future__ import annotations

from flywheel.contracts.events import Utc
from flywheel.contracts.messages import Message


class MismatchExample(Message):
    """One value that was served as `online` and is `offline` when computed again. Either may be NaN."""

    event_id: str
    decided_at: Utc
    online: float
    offline: float


class FeatureMismatches(Message):
    """How one feature differed: how often, how much at worst, and where that was.

    The relative difference is of the larger of the two values; infinite where one alone is no finite number.
    """

    feature: str
    mismatches: int
    worst_absolute: float
    worst_relative: float
    example: MismatchExample


class ParityReport(Message):
    """Sampled decisions of a period, their windowed features computed again as of the moment of each decision."""

    usecase: str
    since: Utc
    until: Utc
    """The decisions were made from `since` to `until`, wall clock."""
    decisions: int
    """Of which at least one value was compared."""
    values: int
    """Compared, of views that were not stale."""
    undecidable: int
    """Values that depend on whether an event that arrived about then was seen, and so were not compared."""
    stale_values: int
    """Compared, of stale views; they are in none of the other numbers."""
    stale_mismatches: int
    skipped: dict[str, int]
    """Decisions of which nothing was compared, by reason."""
    mismatched: tuple[FeatureMismatches, ...]
    """Only features that differed, those that differed most often first."""

    @property
    def mismatches(self) -> int:
        """Values that differed."""
        return sum(feature.mismatches for feature in self.mismatched)

    @property
    def mismatched_share(self) -> float:
        """Of the compared values, those that differed; 0 when there were none."""
        return self.mismatches / self.values if self.values else 0.0
