"""Which requests begin and which are refused while that is still cheap: by limit, criticality and deadline."""

from __future__ import annotations

import math
from enum import IntEnum

from flywheel.kernel.concurrency import Bounds, ConcurrencyLimit


class Criticality(IntEnum):
    """How much a request matters; the larger the sooner it is refused."""

    CRITICAL = 0
    DEFAULT = 1
    SHEDDABLE = 2

    @property
    def word(self) -> str:
        """As callers, labels and logs say it."""
        return self.name.lower()


_WORDS = {criticality.word: criticality for criticality in Criticality}


def lowered(declared: Criticality, asked: str) -> Criticality:
    """What a request matters whose caller asks for that: never more than declared, which holds for unknown words too.

    >>> lowered(Criticality.DEFAULT, "sheddable"), lowered(Criticality.DEFAULT, "critical")
    (<Criticality.SHEDDABLE: 2>, <Criticality.DEFAULT: 1>)
    """
    return max(declared, _WORDS.get(asked, declared)) if asked else declared


class Reason(IntEnum):
    """Why a request was refused. None of them is false."""

    LIMIT = 1
    """As many as can be answered in time are under way."""
    PRIORITY = 2
    """What matters more needs all there is."""
    DEADLINE = 3
    """It would have to wait for longer than its caller does."""
    EXPIRED = 4
    """Its deadline was over when it was read."""

    @property
    def word(self) -> str:
        """As labels say it."""
        return self.name.lower()


_SHARES = (1.0, 0.85, 0.7)
"""What each criticality may fill of the limit: room for what matters more, when that comes all of a sudden."""
_PERIOD_S = 0.05
_ADMITTED = 10
_LONGEST_PERIOD_S = 0.5
_SPREAD = (0.5, 1.2, 0.8, 1.5, 0.6, 1.3, 0.9, 1.4)
_STEPS_MS = (10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000)


class Admission:
    """Whether a request may begin; told how requests ended, with times in seconds on any one clock.

    >>> admission = Admission(Bounds(budget_s=0.05, highest=100, first=5))
    >>> [admission.refusal(Criticality.SHEDDABLE, 0.0) for _ in range(5)][3:]
    [None, <Reason.LIMIT: 1>]
    >>> admission.refusal(Criticality.CRITICAL, 0.0), admission.in_flight
    (None, 5)
    """

    def __init__(self, bounds: Bounds) -> None:
        self._limit = ConcurrencyLimit(bounds)
        self._shares = _Shares()

    @property
    def limit(self) -> float:
        """How many may be under way now."""
        return self._limit.limit

    @property
    def in_flight(self) -> int:
        return self._limit.in_flight

    def refusal(
        self, criticality: Criticality, now_s: float, *, patience_s: float = math.inf, age_s: float = 0.0
    ) -> Reason | None:
        """Why the request, which has come whole, is refused, or None: it has begun, and `ended` is to be told."""
        return self.look(criticality, now_s, patience_s=patience_s, age_s=age_s) or self.begin(
            criticality, now_s, patience_s=patience_s, age_s=age_s
        )

    def look(
        self, criticality: Criticality, now_s: float, *, patience_s: float = math.inf, age_s: float = 0.0
    ) -> Reason | None:
        """Why a request is refused of which the first is known, or None; it takes no place before all has come.

        `patience_s` is what its caller gives it, `age_s` how much of that may have passed before it was read.
        """
        if patience_s <= age_s:
            return Reason.EXPIRED
        shares, limit = self._shares, self._limit
        if now_s >= shares.ends_s:
            shares.renew(now_s)
        if limit.in_flight >= limit.limit * _SHARES[criticality]:
            # Under overload nearly every request ends here.
            shares.came[criticality] += 1
            return self._crowded_out(criticality)
        if not shares.lets(criticality):
            limit.refused()
            return Reason.PRIORITY
        return self._hurried(patience_s - age_s)

    def repeated(self, criticality: Criticality, reason: Reason, count: int) -> None:
        """So many more requests are refused without a look, like one that `look` refused just now.

        Only for LIMIT and EXPIRED: of those that make way for others, or are in a hurry, each is to be looked at.
        """
        if reason is Reason.LIMIT:
            self._shares.came[criticality] += count
            self._crowded_out(criticality, count)

    def begin(
        self, criticality: Criticality, now_s: float, *, patience_s: float = math.inf, age_s: float = 0.0
    ) -> Reason | None:
        """Why a request that `look` let pass is refused now that all of it has come, or None: it has begun."""
        if patience_s <= age_s:
            return Reason.EXPIRED
        limit = self._limit
        if limit.in_flight >= limit.limit * _SHARES[criticality]:
            return self._crowded_out(criticality)
        reason = self._hurried(patience_s - age_s)
        if reason is None:
            limit.began(now_s)
            self._shares.admitted += 1
        return reason

    def _crowded_out(self, criticality: Criticality, count: int = 1) -> Reason:
        self._shares.crowded[criticality] += count
        self._limit.refused(count)
        return Reason.LIMIT

    def _hurried(self, left_s: float) -> Reason | None:
        limit = self._limit
        # One alone waits for nobody, whatever is expected of many.
        if limit.in_flight and limit.expected_s() > left_s:
            limit.hurried()
            return Reason.DEADLINE
        return None

    def ended(self, spent_s: float, now_s: float, *, telling: bool = True) -> None:
        """A request that had begun took `spent_s`, its wait for being read included.

        `telling` is False for one whose caller gave it up: that says nothing of how long it would have taken.
        """
        self._limit.ended(spent_s, now_s, telling=telling)

    def pushbacks_ms(self, criticality: Criticality) -> tuple[int, ...]:
        """After how long refused requests may come again, one after the other, so that not all come at once.

        The longer the more are refused for each one admitted. They are a few round numbers: what carries them can be
        kept.
        """
        middle_ms = 1000 * self._limit.target_s * (1 + self._shares.overload) * (1 << criticality)
        return tuple(_rounded(middle_ms * factor) for factor in _SPREAD)


class _Shares:
    """What part of each criticality is let through; less than all of it while what matters more finds no room.

    Requests come in bursts, and within one the first would take all the room, whatever they matter.
    """

    _RISE = 0.03
    """Of all that was admitted, this part more is let through in the next period."""

    def __init__(self) -> None:
        self.ends_s = _PERIOD_S
        """When a period may be over; `renew` then looks back on it."""
        self.came = [0] * len(Criticality)
        self.crowded = [0] * len(Criticality)
        """Those that found no room."""
        self.admitted = 0
        self.overload = 0.0
        """Refused for each one admitted."""
        self._let = [1.0] * len(Criticality)
        self._due = [0.0] * len(Criticality)

    def lets(self, criticality: Criticality) -> bool:
        """Whether the next request of this criticality gets a try."""
        self.came[criticality] += 1
        share = self._let[criticality]
        if share >= 1.0:
            return True
        self._due[criticality] += share
        if self._due[criticality] < 1.0:
            return False
        self._due[criticality] -= 1.0
        return True

    def renew(self, now_s: float) -> None:
        """Looks back when enough has been admitted to tell something, or the period is long enough without."""
        if self.admitted < _ADMITTED and now_s < self.ends_s - _PERIOD_S + _LONGEST_PERIOD_S:
            return
        self.overload = (sum(self.came) - self.admitted) / max(self.admitted, 1)
        above = 0
        for criticality in Criticality:
            came = max(self.came[criticality], 1)
            if any(self.crowded[:criticality]):
                room = max(self.admitted * (1 - self._RISE) - above, 0)
                self._let[criticality] = min(self._let[criticality] * 0.9, room / came)
            else:
                self._let[criticality] = min(self._let[criticality] + self._RISE * max(self.admitted, 1) / came, 1.0)
            above += self.came[criticality]
        self.ends_s = now_s + _PERIOD_S
        self.came = [0] * len(Criticality)
        self.crowded = [0] * len(Criticality)
        self.admitted = 0


def _rounded(wanted_ms: float) -> int:
    return next((step for step in _STEPS_MS if step >= wanted_ms), _STEPS_MS[-1])
