"""What came too late to be answered, told in the next record of the decision log.

Such requests have no record of their own: nothing was decided. But whoever compares arms must know of them, or an arm
that makes its requests late would be judged by those alone that were in time.
"""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.contracts.decisions import Fallback, Unanswered
from flywheel.contracts.events import from_us
from flywheel.kernel.decision import Answered

_MOST = 128

_Alike = tuple[str, str, Fallback, int]
Records = list[tuple[bytes, bytes]]


class UnansweredNotes:
    """Remembers until told: of each moment, arm and version a number. The newest are kept, a bounded number."""

    def __init__(self) -> None:
        self._notes: dict[_Alike, tuple[int, float | None]] = {}

    def add(self, late: Answered, model_ms: float | None) -> None:
        """This answer is not given."""
        alike = (late.arm.value, late.model_version, late.fallback, late.decided_at_us)
        requests, _ = self._notes.get(alike, (0, None))
        self._notes[alike] = (requests + 1, model_ms)
        if len(self._notes) > _MOST:
            del self._notes[next(iter(self._notes))]

    def told_by(self, records: Sequence[tuple[bytes, bytes]]) -> Records:
        """The records, JSON objects with some fields, the first of which tells what there was to tell."""
        found = list(records)
        if self._notes and found:
            notes, self._notes = self._notes, {}
            told = b",".join(_note(alike, *counted).to_bytes() for alike, counted in notes.items())
            key, record = found[0]
            found[0] = (key, b'%b,"unanswered":[%b]}' % (record[:-1], told))
        return found


def _note(alike: _Alike, requests: int, model_ms: float | None) -> Unanswered:
    arm, version, fallback, decided_at_us = alike
    return Unanswered(
        arm=arm,
        model_version=version,
        fallback=fallback,
        decided_at=from_us(decided_at_us),
        model_ms=model_ms,
        requests=requests,
    )
