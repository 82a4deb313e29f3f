"""The deployment log in words: who answers whom, what a change ended, and what happened last."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.client.console import table
from flywheel.contracts.models import Deployment, Role
from flywheel.kernel.deployment import ended_by

_SHOWN = 8


def render_deployment(deployment: Deployment) -> str:
    """Who answers whom, and who said so."""
    parts = [f"champion {deployment.champion}"]
    if deployment.challenger:
        parts.append(f"challenger {deployment.challenger} for {deployment.challenger_share:.4g} of the units")
    if deployment.canary:
        parts.append(f"canary {deployment.canary} for {deployment.canary_share:.4g}")
    if deployment.shadow:
        parts.append(f"shadow {deployment.shadow}")
    if deployment.withdrawn:
        parts.append(f"withdrawn {deployment.withdrawn}")
    return (
        f"deployment {deployment.sequence}: {', '.join(parts)}\n"
        f"by {deployment.deployed_by} on {deployment.deployed_at:%Y-%m-%d %H:%M} UTC: {deployment.reason}"
    )


def render_ended(before: Deployment, after: Deployment) -> str:
    """A sentence on the versions that play no role any more, those withdrawn left out; empty without any."""
    staying = {after.withdrawn, *(after.version_of(role) for role in Role)}
    ended = [role for role in ended_by(before, after) if before.version_of(role) not in staying]
    return f"this ends {' and '.join(_played(before, role) for role in ended)}" if ended else ""


def render_history(log: Sequence[Deployment]) -> str:
    """The newest entries, newest first: when, by whom, what changed and why."""
    befores: list[Deployment | None] = [None, *log[:-1]]
    rows = [
        (
            str(entry.sequence),
            f"{entry.deployed_at:%Y-%m-%d %H:%M}",
            entry.deployed_by,
            _change(before, entry),
            entry.reason,
        )
        for before, entry in zip(befores, log, strict=True)
    ]
    return table(("deployment", "UTC", "by", "change", "reason"), rows[: -_SHOWN - 1 : -1], frozenset({0}))


def share_of(deployment: Deployment, role: Role) -> float:
    """The role's own share of the units; 0 for roles that have none."""
    shares = {Role.CHALLENGER: deployment.challenger_share, Role.CANARY: deployment.canary_share}
    return shares.get(role, 0.0)


def _change(before: Deployment | None, after: Deployment) -> str:
    begun = [
        _played(after, role)
        for role in Role
        if after.version_of(role) is not None and (before is None or _part(before, role) != _part(after, role))
    ]
    gone = [] if before is None else [role for role in ended_by(before, after) if after.version_of(role) is None]
    ended = [f"no {role} any more" for role in gone]
    withdrawn = [f"withdrawn {after.withdrawn}"] if after.withdrawn else []
    return ", ".join([*begun, *ended, *withdrawn]) or "none"


def _part(deployment: Deployment, role: Role) -> tuple[str | None, float]:
    return deployment.version_of(role), share_of(deployment, role)


def _played(deployment: Deployment, role: Role) -> str:
    share = share_of(deployment, role)
    return f"{role} {deployment.version_of(role)}" + (f" for {share:.4g}" if share else "")
