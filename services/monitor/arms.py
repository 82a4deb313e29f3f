"""What each arm's model did lately, as far as it tells one model from another."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from flywheel.contracts.decisions import MODEL_RUN, DecisionLogged, Fallback
from flywheel.contracts.events import to_us
from flywheel.contracts.models import Role
from flywheel.kernel.canary import ArmSeen, arm_of
from flywheel.kernel.rollout import MOST_DECISIONS

_TOLD_BY_MODEL = (Fallback.NONE, Fallback.MODEL_UNAVAILABLE)


class _Seen(NamedTuple):
    decided_at_us: int
    unit: int
    version: str
    failed: bool
    model_ms: float
    score: float
    action: str
    run: int


class Arms:
    """The newest decisions of each arm, a bounded number. A decision without its features tells nothing of a model."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[_Seen]] = {}

    def add(self, logged: DecisionLogged, unit: str) -> None:
        """Takes a decision in; `unit` is the pseudonym of whom it was about."""
        if logged.fallback not in _TOLD_BY_MODEL:
            return
        failed = logged.fallback is Fallback.MODEL_UNAVAILABLE
        model_ms = logged.stage_ms.get(MODEL_RUN, logged.stage_ms.get("model", math.nan))
        self._seen.setdefault(logged.arm, deque(maxlen=MOST_DECISIONS)).append(
            _Seen(
                to_us(logged.decided_at),
                hash(unit),
                logged.model_version,
                failed,
                math.nan if failed else model_ms,
                math.nan if failed else logged.score,
                logged.action,
                # Requests that one process answers together begin at one moment.
                hash((logged.decided_at, logged.writer)),
            )
        )

    def forget(self, unit: str) -> None:
        """Nothing is left of that unit."""
        gone = hash(unit)
        for role, seen in self._seen.items():
            self._seen[role] = deque((one for one in seen if one.unit != gone), maxlen=MOST_DECISIONS)

    def number(self, role: Role, version: str, since_us: int) -> int:
        """How many decisions of that arm by that version, or by none, there are since then, as far as they are kept."""
        return len(self._since(role, version, since_us))

    def units(self, role: Role, version: str, since_us: int) -> int:
        """How many units those decisions were about."""
        return len({seen.unit for seen in self._since(role, version, since_us)})

    def newest_us(self, role: Role, version: str, since_us: int) -> int:
        """When the newest of them was made; `since_us` when there is none."""
        return max((seen.decided_at_us for seen in self._since(role, version, since_us)), default=since_us)

    def seen(self, role: Role, version: str, since_us: int) -> ArmSeen:
        """Those decisions, oldest first."""
        kept = self._since(role, version, since_us)
        return arm_of([(s.unit, s.failed, s.model_ms, s.score, s.action, s.run) for s in kept])

    def _since(self, role: Role, version: str, since_us: int) -> list[_Seen]:
        return [
            seen
            for seen in self._seen.get(role, ())
            if seen.decided_at_us >= since_us and (seen.failed or seen.version == version)
        ]
