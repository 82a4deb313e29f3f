"""Joins decisions with the labels that come days later, and says which decisions' truth is settled.

Positives are reported one by one, negatives only by silence. Counting a decision as soon as its label arrives would
therefore see mostly positives among the young; here a decision *matures* when event time has moved `maturity_us`
past it, and counts only then, labelled or not. A label later than that is not counted, as in training.

What time it is only accepted events say, whose times are checked where they come in. A decision's own time is
whatever its caller claimed, and one from the far future must not settle all the others.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_NO_LABEL = np.iinfo(np.int64).max
_NOBODY = 0
"""Key of a row that was forgotten; an event's own is that by a chance of 1 in 2^64."""
_ROW = np.dtype(
    [
        ("key", np.uint64),
        ("event_time_us", np.int64),
        ("decided_at_us", np.int64),
        ("unit", np.uint64),
        ("challenger", np.bool_),
        ("version", np.int32),
        ("score", np.float64),
        ("amount", np.float64),
        ("declined", np.bool_),
        ("stepped_up", np.bool_),
        ("fallback", np.bool_),
        ("canary", np.bool_),
        ("label_time_us", np.int64),
    ]
)


@dataclass(frozen=True, slots=True)
class Decided:
    """What the ledger keeps of one decision. Times are microseconds since the epoch."""

    event_id: str
    event_time_us: int
    decided_at_us: int
    unit: str
    challenger: bool
    version: str
    score: float
    amount: float
    declined: bool
    stepped_up: bool
    fallback: bool
    canary: bool = False


@dataclass(frozen=True)
class Outcomes:
    """Decisions with what is known of their truth, as columns of equal length in order of arrival.

    `unit` identifies the unit by a hash; `version` indexes `versions`. `positive` is the label as far as it is known,
    final where `matured`.
    """

    event_time_us: NDArray[np.int64]
    decided_at_us: NDArray[np.int64]
    unit: NDArray[np.uint64]
    challenger: NDArray[np.bool_]
    version: NDArray[np.int32]
    score: NDArray[np.float64]
    amount: NDArray[np.float64]
    declined: NDArray[np.bool_]
    stepped_up: NDArray[np.bool_]
    fallback: NDArray[np.bool_]
    canary: NDArray[np.bool_]
    positive: NDArray[np.bool_]
    matured: NDArray[np.bool_]
    versions: tuple[str, ...]

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """Decisions that did not simply let the subject through."""
        return self.declined | self.stepped_up

    def __len__(self) -> int:
        return int(self.score.size)

    def where(self, mask: NDArray[np.bool_]) -> Outcomes:
        """Only the rows of the mask."""
        columns = {name: column[mask] for name, column in vars(self).items() if name != "versions"}
        return Outcomes(**columns, versions=self.versions)


class Ledger:
    """The newest `capacity` decisions and their labels, whatever order they come in.

    Of several decisions about one event the first counts: it was the one acted upon, later ones are repeats.
    A label may come before its decision; as many such labels as decisions are remembered. Reading any record
    twice changes nothing. Memory is bounded by `capacity`: about 170 bytes a decision.

    >>> ledger = Ledger(maturity_us=100, capacity=10)
    >>> ledger.decide(Decided("t1", 0, 1, "c1", False, "v1", 0.9, 5.0, True, False, False))
    True
    >>> ledger.label("t1", 50)
    >>> ledger.outcomes().matured.tolist()
    [False]
    >>> ledger.advance(100)
    >>> ledger.outcomes().matured.tolist(), ledger.outcomes().positive.tolist()
    ([True], [True])
    """

    def __init__(self, maturity_us: int, capacity: int) -> None:
        if maturity_us < 0 or capacity < 1:
            raise ValueError("maturity must not be negative and capacity must be at least 1")
        self._maturity_us = maturity_us
        self._rows = np.zeros(capacity, dtype=_ROW)
        self._size = 0
        self._next = 0
        self._slot_of: dict[int, int] = {}
        self._early_labels: OrderedDict[int, int] = OrderedDict()
        self._versions: dict[str, int] = {}
        self._watermark_us: int | None = None
        self.capacity = capacity
        self.forgotten_early = 0
        """Decisions that made room for others before they matured: their truth is never measured."""

    @property
    def watermark_us(self) -> int | None:
        """The newest time of an accepted event; None before the first."""
        return self._watermark_us

    def advance(self, event_time_us: int) -> None:
        """An event of this time was accepted: event time has come at least this far."""
        if self._watermark_us is None or event_time_us > self._watermark_us:
            self._watermark_us = event_time_us

    def decide(self, decided: Decided) -> bool:
        """Adds a decision, forgetting the oldest when full; False when its event was decided before."""
        key = _hash(decided.event_id)
        if key in self._slot_of:
            return False
        slot = self._free_slot(decided.event_time_us)
        self._slot_of[key] = slot
        self._rows[slot] = (
            key,
            decided.event_time_us,
            decided.decided_at_us,
            _hash(decided.unit),
            decided.challenger,
            self._versions.setdefault(decided.version, len(self._versions)),
            decided.score,
            decided.amount,
            decided.declined,
            decided.stepped_up,
            decided.fallback,
            decided.canary,
            self._early_labels.pop(key, _NO_LABEL),
        )
        return True

    def label(self, event_id: str, label_time_us: int) -> None:
        """The event was reported as positive at that event time; of several reports the earliest counts."""
        self.advance(label_time_us)
        key = _hash(event_id)
        slot = self._slot_of.get(key)
        if slot is not None:
            row = self._rows[slot]
            row["label_time_us"] = min(int(row["label_time_us"]), label_time_us)
            return
        self._early_labels[key] = min(self._early_labels.get(key, _NO_LABEL), label_time_us)
        if len(self._early_labels) > self._rows.size:
            self._early_labels.popitem(last=False)

    def forget(self, unit: str, until_us: int) -> int:
        """How many decisions about the unit, made until that moment, are gone from the window."""
        rows = self._rows[: self._size]
        gone = np.flatnonzero(
            (rows["unit"] == _hash(unit)) & (rows["decided_at_us"] <= until_us) & (rows["key"] != _NOBODY)
        )
        for slot in gone:
            del self._slot_of[int(rows["key"][slot])]
            rows[slot] = np.zeros((), dtype=_ROW)
        return gone.size

    def outcomes(self) -> Outcomes:
        """Everything in the window, as of the newest event time. A copy."""
        if self._size < self._rows.size:
            rows = self._rows[: self._size].copy()
        else:
            rows = np.concatenate([self._rows[self._next :], self._rows[: self._next]])
        rows = rows[rows["key"] != _NOBODY]
        deadline = rows["event_time_us"] + self._maturity_us
        return Outcomes(
            **{name: rows[name] for name in _ROW.names or () if name not in ("key", "label_time_us")},
            positive=rows["label_time_us"] <= deadline,
            matured=deadline <= (self._watermark_us or 0),
            versions=tuple(self._versions),
        )

    def _free_slot(self, event_time_us: int) -> int:
        slot = self._next
        self._next = (slot + 1) % self._rows.size
        if self._size < self._rows.size:
            self._size += 1
        elif self._rows["key"][slot] != _NOBODY:
            oldest = self._rows[slot]
            # Judged by the newcomer's time as well: read anew, the log may give decisions ahead of events.
            present_us = max(event_time_us, self._watermark_us or event_time_us)
            self.forgotten_early += int(oldest["event_time_us"]) + self._maturity_us > present_us
            del self._slot_of[int(oldest["key"])]
        return slot


def _hash(name: str) -> int:
    # 64 bits: two of a million events share one by a chance of 1 in 37 million.
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")
