"""What each arm did since a moment, as far as it tells one model from another."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from flywheel.contracts.decisions import MODEL_RUN, DecisionLogged, Fallback, Unanswered
from flywheel.contracts.events import to_us
from flywheel.contracts.models import Role
from flywheel.kernel.arm_evidence import ArmSeen, Seen, arm_of
from flywheel.kernel.rollout import MOST_DECISIONS

_NOT_OF_THE_MODEL = (Fallback.FEATURES_STALE, Fallback.FEATURES_UNAVAILABLE)
_NOBODY = -1
_MOST_ALIKE = 1_000
"""Entries of one note of late requests; one of more is of many moments, whose runs nobody can tell apart any more."""


class _Kept(NamedTuple):
    version: str | None
    """Of the model; empty where none gave a score, None where that was not the model's doing."""
    seen: Seen
    requests: int = 1
    """How many it stands for in the totals."""


@dataclass
class _Arm:
    kept: list[_Kept] = field(default_factory=list)
    thinned: int = 1
    answered: int = 0
    by_fallback: int = 0
    unanswered: int = 0

    def count(self, one: _Kept) -> None:
        if one.seen.action:
            self.answered += one.requests
            self.by_fallback += 0 if one.version else one.requests
        else:
            self.unanswered += one.requests


@dataclass(frozen=True)
class ArmTotals:
    """How many requests of an arm were answered, how many of these not by the model, how many came too late."""

    answered: int
    by_fallback: int
    unanswered: int

    @property
    def fallback_share(self) -> float | None:
        """Of the answers; None without any."""
        return self.by_fallback / self.answered if self.answered else None


class Arms:
    """What is known of the arms since `begin`, in bounded memory: of an arm with many decisions every second run is
    left out, then of what is left, so that what is kept always covers the whole time.

    A decision whose features were not there tells nothing of a model; it is in the totals alone.
    """

    def __init__(self) -> None:
        self._since_us = 0
        self._newest_us = 0
        self._arms: dict[str, _Arm] = {}

    def begin(self, since_us: int) -> None:
        """Whatever was before that tells nothing any more."""
        if any(arm.thinned > 1 for arm in self._arms.values()):
            # What is left of the newest time is thinner than what will come.
            since_us = max(since_us, self._newest_us + 1)
        self._since_us = since_us
        for arm in self._arms.values():
            arm.kept = [one for one in arm.kept if one.seen.at_us >= since_us]
            arm.thinned = 1
            arm.answered = arm.by_fallback = arm.unanswered = 0
            for one in arm.kept:
                arm.count(one)

    def add(self, logged: DecisionLogged, unit: str) -> None:
        """Takes a decision in; `unit` is the pseudonym of whom it was about."""
        at_us = to_us(logged.decided_at)
        if at_us < self._since_us:
            return
        by_model = logged.fallback is Fallback.NONE
        model_ms = logged.stage_ms.get(MODEL_RUN, logged.stage_ms.get("model", math.nan))
        seen = Seen(
            at_us,
            hash(unit),
            failed=logged.fallback is Fallback.MODEL_UNAVAILABLE,
            late=logged.fallback is Fallback.DEADLINE,
            model_ms=model_ms if by_model else math.nan,
            score=logged.score if by_model else math.nan,
            action=logged.action,
            run=_run(logged.decided_at, logged.writer),
        )
        self._take(logged.arm, _Kept(_version(logged.model_version, logged.fallback), seen))

    def add_unanswered(self, told: Unanswered, writer: str) -> None:
        """Takes in requests that had no answer in time."""
        at_us = to_us(told.decided_at)
        if at_us < self._since_us:
            return
        seen = Seen(
            at_us,
            _NOBODY,
            failed=told.fallback is Fallback.MODEL_UNAVAILABLE,
            late=True,
            model_ms=math.nan if told.model_ms is None else told.model_ms,
            score=math.nan,
            action="",
            run=_run(told.decided_at, writer),
        )
        one = _Kept(_version(told.model_version, told.fallback), seen)
        alike = min(told.requests, _MOST_ALIKE)
        self._take(told.arm, one._replace(requests=told.requests - alike + 1))
        for _ in range(alike - 1):
            self._take(told.arm, one)

    def forget(self, unit: str) -> None:
        """Nothing is left of that unit but numbers."""
        gone = hash(unit)
        for arm in self._arms.values():
            arm.kept = [one for one in arm.kept if one.seen.unit != gone]

    def totals(self, role: Role) -> ArmTotals:
        """How the arm's requests were answered."""
        arm = self._arms.get(role, _Arm())
        return ArmTotals(arm.answered, arm.by_fallback, arm.unanswered)

    def number(self, role: Role, version: str) -> int:
        """About how many decisions of that arm there are, by that version or by none; exactly, as long as all are
        kept."""
        return sum(1 for _ in self._of(role, version)) * self._thinned(role)

    def units(self, role: Role, version: str, since_us: int) -> int:
        """At least how many units decisions of that arm were about since then."""
        return len({seen.unit for seen in self._of(role, version) if seen.at_us >= since_us} - {_NOBODY})

    def newest_us(self, role: Role, version: str) -> int:
        """When the newest of them was made; the beginning when there is none."""
        return max((seen.at_us for seen in self._of(role, version)), default=self._since_us)

    def seen(self, role: Role, version: str) -> ArmSeen:
        """Those decisions, as evidence."""
        return arm_of(self._of(role, version), self._thinned(role))

    def _take(self, role: str, one: _Kept) -> None:
        arm = self._arms.setdefault(role, _Arm())
        arm.count(one)
        self._newest_us = max(self._newest_us, one.seen.at_us)
        if one.seen.run % arm.thinned:
            return
        arm.kept.append(one)
        while len(arm.kept) > MOST_DECISIONS and arm.thinned < MOST_DECISIONS:
            arm.thinned *= 2
            arm.kept = [kept for kept in arm.kept if kept.seen.run % arm.thinned == 0]

    def _of(self, role: Role, version: str) -> list[Seen]:
        arm = self._arms.get(role)
        return [one.seen for one in arm.kept if one.version in (version, "")] if arm else []

    def _thinned(self, role: Role) -> int:
        return self._arms[role].thinned if role in self._arms else 1


def _version(version: str, fallback: Fallback) -> str | None:
    if fallback in _NOT_OF_THE_MODEL:
        return None
    return version if fallback is Fallback.NONE else ""


def _run(decided_at: datetime, writer: str) -> int:
    # Requests that one process answers together begin at one moment.
    return hash((decided_at, writer))
