"""What came too late to be answered, told in the next record of the decision log.

Such requests have no record of their own: nothing was decided. But whoever compares arms must know of them, or an arm
that makes its requests late would be judged by those alone that were in time.
"""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.contracts.decisions import Fallback, Unanswered
from flywheel.contracts.events import from_us
from flywheel.kernel.decision import Answered

_MOST = 64

_Kind = tuple[str, str, Fallback]
Records = list[tuple[bytes, bytes]]


class UnansweredNotes:
    """Remembers until told: of each arm, version and fallback the newest moments, a bounded number, each with how many
    requests were late. Those of older moments count among the newest one's: when they were is lost, no request is.
    """

    def __init__(self) -> None:
        self._notes: dict[_Kind, dict[int, tuple[int, float | None]]] = {}

    def add(self, late: Answered, model_ms: float | None) -> None:
        """This answer is not given."""
        # By kind, or the many notes of a large arm would leave no moment of a small one.
        moments = self._notes.setdefault((late.arm.value, late.model_version, late.fallback), {})
        requests, _ = moments.get(late.decided_at_us, (0, None))
        if not requests and len(moments) == _MOST:
            requests, _ = moments.pop(next(iter(moments)))
        moments[late.decided_at_us] = (requests + 1, model_ms)

    def told_by(self, records: Sequence[tuple[bytes, bytes]]) -> Records:
        """The records, JSON objects with some fields, the first of which tells what there was to tell."""
        found = list(records)
        if self._notes and found:
            notes, self._notes = self._notes, {}
            told = b",".join(
                _note(kind, at_us, *counted).to_bytes()
                for kind, moments in notes.items()
                for at_us, counted in moments.items()
            )
            key, record = found[0]
            found[0] = (key, b'%b,"unanswered":[%b]}' % (record[:-1], told))
        return found


def _note(kind: _Kind, decided_at_us: int, requests: int, model_ms: float | None) -> Unanswered:
    arm, version, fallback = kind
    return Unanswered(
        arm=arm,
        model_version=version,
        fallback=fallback,
        decided_at=from_us(decided_at_us),
        model_ms=model_ms,
        requests=requests,
    )
