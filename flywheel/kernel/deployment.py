"""The next entry of the deployment log: who takes which role, what is refused, what a rollback goes back to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flywheel.contracts.models import Deployment, Role
from flywheel.kernel.rollout import Rollout


class Unsupported(ValueError):
    """A deployment that would not mean what it says."""


@dataclass(frozen=True)
class Author:
    """Who deploys, when and why; it stands in the log."""

    by: str
    at: datetime
    reason: str


def check_roles(deployment: Deployment) -> None:
    """Raises Unsupported where shares or roles contradict each other.

    >>> entry = Deployment.model_construct(usecase="fraud", champion="v1", challenger="v2", challenger_share=1.2)
    >>> check_roles(entry)
    Traceback (most recent call last):
    flywheel.kernel.deployment.Unsupported: fraud: a share of 1.2 for the challenger is not within 0 and 1
    """
    name = deployment.usecase
    shares = {Role.CHALLENGER: deployment.challenger_share, Role.CANARY: deployment.canary_share}
    for role, share in shares.items():
        if not (math.isfinite(share) and 0 <= share <= 1):
            raise Unsupported(f"{name}: a share of {share:g} for the {role} is not within 0 and 1")
        if share and deployment.version_of(role) is None:
            raise Unsupported(f"{name}: a share of {share:g} for a {role} that is not named")
    if deployment.canary is not None and not deployment.canary_share:
        raise Unsupported(f"{name}: the canary {deployment.canary} has no share; to score without answering: shadow")
    if sum(shares.values()) > 1:
        raise Unsupported(f"{name}: challenger and canary would take {sum(shares.values()):.0%} of the units together")
    taken: dict[str, Role] = {}
    for role in Role:
        version = deployment.version_of(role)
        if version is not None and version in taken:
            raise Unsupported(f"{name}: {version} cannot be {taken[version]} and {role} at once")
        if version is not None:
            taken[version] = role


def entry(current: Deployment, author: Author, **changes: Any) -> Deployment:
    """The entry after `current` that differs from it in `changes` alone. Raises Unsupported."""
    told = {"deployed_by": author.by, "deployed_at": author.at, "reason": author.reason, "withdrawn": None}
    following = current.model_copy(update={**told, "sequence": current.sequence + 1, **changes})
    check_roles(following)
    return following


def with_role(current: Deployment, role: Role, version: str, share: float, author: Author) -> Deployment:
    """The entry in which the version plays that role, and no other one any more. Raises Unsupported.

    A version that becomes champion keeps challenger and shadow as they are; a canary under way ends.
    """
    changes = {**_freed(current, version), role.value: version}
    if role is Role.CHAMPION:
        changes |= {"canary": None, "canary_share": 0.0}
    elif role is not Role.SHADOW:
        changes[f"{role.value}_share"] = share
    return entry(current, author, **changes)


def first(usecase: str, version: str, salt: str, author: Author) -> Deployment:
    """The first entry of a log."""
    return Deployment(
        sequence=1,
        usecase=usecase,
        deployed_at=author.at,
        deployed_by=author.by,
        reason=author.reason,
        champion=version,
        salt=salt,
    )


def advanced(current: Deployment, rollout: Rollout, author: Author) -> Deployment:
    """The entry in which the canary takes the next step; the last one makes it the champion. Raises Unsupported."""
    if current.canary is None:
        raise Unsupported(f"{current.usecase}: there is no canary to advance")
    share = rollout.after(current.canary_share)
    if share >= 1:
        return with_role(current, Role.CHAMPION, current.canary, 0.0, author)
    return entry(current, author, canary_share=share)


def rolled_back(log: Sequence[Deployment], author: Author) -> Deployment:
    """The entry that takes the newest change of traffic back: the canary goes, or else the champion before returns.

    A version that was withdrawn before is passed over. Raises Unsupported when there is nothing to go back to.
    """
    if not log:
        raise Unsupported("nothing is deployed, so there is nothing to go back to")
    current = log[-1]
    if current.canary is not None:
        return entry(current, author, canary=None, canary_share=0.0, withdrawn=current.canary)
    withdrawn = withdrawn_by(log) | {current.champion}
    for earlier in reversed(log):
        if earlier.champion not in withdrawn:
            freed = _freed(current, earlier.champion)
            return entry(current, author, **{**freed, "champion": earlier.champion, "withdrawn": current.champion})
    others = any(earlier.champion != current.champion for earlier in log)
    passed_over = " that was not withdrawn" if others else ""
    raise Unsupported(f"{current.usecase}: there was no champion before {current.champion}{passed_over}")


def withdrawn_by(log: Sequence[Deployment]) -> set[str]:
    """The versions that were withdrawn and not made champion since."""
    return set(withdrawals(log))


def withdrawals(log: Sequence[Deployment]) -> dict[str, Deployment]:
    """The same, each with the entry that withdrew it last: by whom, when and why."""
    found: dict[str, Deployment] = {}
    champion = ""
    for entered in log:
        if entered.champion != champion:
            champion = entered.champion
            found.pop(champion, None)
        if entered.withdrawn:
            found[entered.withdrawn] = entered
    return found


def ended_by(before: Deployment, after: Deployment) -> list[Role]:
    """The roles in which `after` has another version than `before`, or none, where `before` had one."""
    return [role for role in Role if before.version_of(role) not in (None, after.version_of(role))]


def _freed(current: Deployment, version: str) -> dict[str, Any]:
    """The roles beside the champion's that the version leaves."""
    changes: dict[str, Any] = {}
    for role in (Role.CHALLENGER, Role.CANARY, Role.SHADOW):
        if current.version_of(role) == version:
            changes[role.value] = None
            if role is not Role.SHADOW:
                changes[f"{role.value}_share"] = 0.0
    return changes
