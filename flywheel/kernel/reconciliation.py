"""Finds what is missing in a log whose writers number their records and say how many of them were lost.

A record that is missing was lost, or is still on its way: it waits in its writer, or in another partition.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_MISSING_KEPT = 100_000
_WRITERS_KEPT = 256
_NAMES_KEPT = 10_000


@dataclass(frozen=True)
class Reconciled:
    """Answered = logged + lost + under way + unexplained. `repeats` came again, which changes nothing."""

    answered: int
    logged: int
    lost: int
    """Missing, and said to be lost by their writers."""
    under_way: int
    """Missing for so short a time that they may still come."""
    unexplained: int
    """Missing for longer, and not said to be lost."""
    repeats: int
    writers: int


@dataclass
class _Writer:
    highest: int = 0
    logged: int = 0
    lost: int = 0
    missing: dict[int, int] = field(default_factory=dict)
    """Numbers, ascending as they were missed, with when that was."""
    forgotten: int = 0
    """Missing numbers that are too many to be kept."""
    first: int = 0
    """Where its account begins: one before its first number."""
    lost_before: int = 0
    """How many of its lost ones another account has."""


class Reconciliation:
    """The account of all writers of one log, in bounded memory. Times in microseconds are those of the records.

    >>> account = Reconciliation(patience_us=60)
    >>> [account.take("w", number, lost=0, at_us=number) for number in (1, 2, 4)]
    [True, True, True]
    >>> account.state(now_us=10)
    Reconciled(answered=4, logged=3, lost=0, under_way=1, unexplained=0, repeats=0, writers=1)
    >>> account.state(now_us=100).unexplained
    1
    >>> account.take("w", 5, lost=1, at_us=101)
    True
    >>> account.state(now_us=200)
    Reconciled(answered=5, logged=4, lost=1, under_way=0, unexplained=0, repeats=0, writers=1)
    """

    def __init__(self, *, patience_us: int) -> None:
        self._patience_us = patience_us
        self._writers: dict[str, _Writer] = {}
        self._gone = _Writer()
        self._gone_names: dict[str, tuple[int, int]] = {}
        """Writers not heard of for long: the highest number of each, and how many it had lost."""
        self._gone_writers = 0
        self._forgets_names = False
        self._repeats = 0
        self.truncated = False
        """Whether the log has forgotten its beginning: what its writers wrote before their first record is unknown."""

    def take(self, writer: str, number: int, *, lost: int, at_us: int) -> bool:
        """A record was read: whether for the first time. Numbers begin with 1; order does not matter."""
        # Whoever was heard last is forgotten last.
        account = self._writers.pop(writer) if writer in self._writers else self._begun(writer, number)
        self._writers[writer] = account
        self._bound_writers()
        account.lost = max(account.lost, lost - account.lost_before)
        if number > account.highest:
            self._miss(account, account.highest + 1, number, at_us)
            account.highest = number
            account.logged += 1
            return True
        if account.missing.pop(number, None) is not None:
            account.logged += 1
            return True
        self._repeats += number > account.first
        return False

    def state(self, now_us: int) -> Reconciled:
        """How the account stands."""
        accounts = [*self._writers.values(), self._gone]
        settled = [self._settled(account, now_us) for account in accounts]
        missing = [len(account.missing) + account.forgotten for account in accounts]
        lost = [min(account.lost, number) for account, number in zip(accounts, missing, strict=True)]
        unexplained = sum(max(0, old - gone) for old, gone in zip(settled, lost, strict=True))
        return Reconciled(
            answered=sum(account.highest - account.first for account in accounts),
            logged=sum(account.logged for account in accounts),
            lost=sum(lost),
            under_way=sum(missing) - sum(lost) - unexplained,
            unexplained=unexplained,
            repeats=self._repeats,
            writers=len(self._writers) + self._gone_writers,
        )

    def _miss(self, account: _Writer, first: int, end: int, at_us: int) -> None:
        # A gap that no memory should hold is counted instead.
        kept = max(first, end - _MISSING_KEPT)
        account.forgotten += kept - first
        account.missing.update(dict.fromkeys(range(kept, end), at_us))
        while len(account.missing) > _MISSING_KEPT:
            del account.missing[next(iter(account.missing))]
            account.forgotten += 1

    def _settled(self, account: _Writer, now_us: int) -> int:
        young = 0
        for at_us in reversed(account.missing.values()):
            if now_us - at_us >= self._patience_us:
                break
            young += 1
        return len(account.missing) - young + account.forgotten

    def _begun(self, writer: str, number: int) -> _Writer:
        if (gone := self._gone_names.pop(writer, None)) is not None:
            self._gone_writers -= 1
            first, lost = gone
            return _Writer(highest=first, first=first, lost_before=lost)
        # A name that was forgotten cannot be told from a new one.
        first = number - 1 if self.truncated or self._forgets_names else 0
        return _Writer(highest=first, first=first)

    def _bound_writers(self) -> None:
        if len(self._writers) <= _WRITERS_KEPT:
            return
        name = next(iter(self._writers))
        oldest = self._writers.pop(name)
        self._gone_names[name] = (oldest.highest, oldest.lost_before + oldest.lost)
        if len(self._gone_names) > _NAMES_KEPT:
            del self._gone_names[next(iter(self._gone_names))]
            self._forgets_names = True
        missing = len(oldest.missing) + oldest.forgotten
        lost = min(oldest.lost, missing)
        self._gone.highest += oldest.highest - oldest.first
        self._gone.logged += oldest.logged
        self._gone.lost += lost
        self._gone.forgotten += missing
        self._gone_writers += 1
