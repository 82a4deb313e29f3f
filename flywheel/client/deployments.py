"""Deploys models by hand, takes deployments back, and shows which models there are."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flywheel.client.console import table
from flywheel.client.deployment_history import render_deployment, render_ended, render_history, share_of
from flywheel.client.errors import ClientError
from flywheel.contracts.models import Deployment, ModelManifest, Role
from flywheel.kernel import deployment as entries
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.deployment import Author, Unsupported
from flywheel.kernel.gates import all_passed
from flywheel.kernel.ports import CorruptModel, ModelStore
from flywheel.kernel.rollout import Rollout


@dataclass(frozen=True)
class Wanted:
    """Which version is to play which role; `share` None means the declared one."""

    version: str
    role: Role
    share: float | None = None
    despite_gates: bool = False
    again: bool = False
    """Although it was withdrawn."""


class Deployments:
    """The deployment log of one use case as an operator changes it. Raises ClientError for what is refused.

    `tell` is given a sentence on what a change ended beside what was asked for.
    """

    def __init__(self, usecase: UseCase, store: ModelStore, tell: Callable[[str], None] = lambda _: None) -> None:
        self._usecase = usecase
        self._store = store
        self._tell = tell
        self._rollout = usecase.rollout or Rollout()

    def deploy(self, wanted: Wanted, author: Author) -> Deployment:
        """Gives the version its role from now on; serving follows within seconds."""
        self._check(wanted)
        share = self._share(wanted)
        log = self._log()
        current = log[-1] if log else None
        if current is None:
            if wanted.role is not Role.CHAMPION:
                raise ClientError(f"there is no champion yet beside which {wanted.version} could be the {wanted.role}")
            return self._append(None, entries.first(self._usecase.name, wanted.version, secrets.token_hex(8), author))
        if current.version_of(wanted.role) == wanted.version and share in (0.0, share_of(current, wanted.role)):
            raise ClientError(f"{wanted.version} is the {wanted.role} already")
        self._check_withdrawn(wanted, log)
        try:
            return self._append(current, entries.with_role(current, wanted.role, wanted.version, share, author))
        except Unsupported as error:
            raise ClientError(str(error)) from error

    def roll_back(self, author: Author) -> Deployment:
        """Ends the canary, or brings the champion before the present one back."""
        log = self._log()
        try:
            following = entries.rolled_back(log, author)
        except Unsupported as error:
            raise ClientError(str(error)) from error
        if following.champion != log[-1].champion:
            self._loaded(following.champion)
        return self._append(log[-1], following)

    def overview(self) -> str:
        """All versions, newest first: what each is, whether it passed its gates, which role it plays."""
        log = self._log()
        current = log[-1] if log else None
        withdrawn = entries.withdrawn_by(log)
        rows = [self._row(version, current, withdrawn) for version in self._store.versions(self._usecase.name)]
        if not rows:
            return "no model is published yet; `make train` makes one"
        rows.sort(key=lambda row: row[2], reverse=True)
        shown = table(("version", "role", "created", "algorithm", "gates", "features"), rows)
        return shown if current is None else f"{shown}\n\n{render_deployment(current)}\n\n{render_history(log)}"

    def _log(self) -> list[Deployment]:
        try:
            return self._store.deployments(self._usecase.name)
        except (OSError, ValueError) as error:
            raise ClientError(f"the deployment log cannot be read: {' '.join(str(error).split())}") from error

    def _check(self, wanted: Wanted) -> None:
        manifest = self._loaded(wanted.version)
        if manifest.feature_fingerprint != self._usecase.fingerprint:
            raise ClientError(f"{wanted.version} reads other features than are declared now; train a new model")
        if wanted.role is Role.SHADOW and self._usecase.ranks:
            raise ClientError(
                f"{self._usecase.name} ranks, and a shadow is run beside single decisions only; "
                "compare it as a challenger with a small share: ROLE=challenger SHARE=0.01"
            )
        failed = _failed(manifest)
        if failed and wanted.role is not Role.SHADOW and not wanted.despite_gates:
            raise ClientError(f"{wanted.version} did not pass its gates ({failed}); it may be a shadow")

    def _check_withdrawn(self, wanted: Wanted, log: Sequence[Deployment]) -> None:
        entry = entries.withdrawals(log).get(wanted.version)
        plays_it = log[-1].version_of(wanted.role) == wanted.version
        if entry is not None and not (wanted.again or plays_it or wanted.role is Role.SHADOW):
            raise ClientError(
                f"{wanted.version} was withdrawn by {entry.deployed_by} on {entry.deployed_at:%Y-%m-%d %H:%M} UTC "
                f"({entry.reason}); it may be a shadow, or say that you want it all the same: --again"
            )

    def _loaded(self, version: str) -> ModelManifest:
        try:
            return self._store.load(self._usecase.name, version)[0]
        except KeyError as error:
            known = ", ".join(self._store.versions(self._usecase.name)) or "none"
            raise ClientError(f"there is no model {version!r}; there are: {known}") from error
        except CorruptModel as error:
            raise ClientError(f"{version} is damaged: {error}") from error

    def _share(self, wanted: Wanted) -> float:
        if wanted.role in (Role.CHAMPION, Role.SHADOW):
            if wanted.share is not None:
                raise ClientError(f"a {wanted.role} has no share")
            return 0.0
        if wanted.role is Role.CHALLENGER:
            return self._usecase.experiment.challenger_share if wanted.share is None else wanted.share
        steps = self._rollout.steps[:-1]
        if not steps:
            raise ClientError("the declared rollout has no step below 1, so there is no canary; deploy a champion")
        share = steps[0] if wanted.share is None else wanted.share
        if share not in steps:
            raise ClientError(f"a canary's share is one of the declared steps: {', '.join(f'{s:g}' for s in steps)}")
        return share

    def _append(self, before: Deployment | None, following: Deployment) -> Deployment:
        try:
            self._store.deploy(following)
        except Unsupported as error:
            raise ClientError(str(error)) from error
        except ValueError as error:
            raise ClientError(f"somebody else deployed at the same moment ({error}); look, then try again") from error
        if before is not None and (ended := render_ended(before, following)):
            self._tell(ended)
        return following

    def _row(self, version: str, current: Deployment | None, withdrawn: set[str]) -> tuple[str, ...]:
        role = _role(version, current) or ("withdrawn" if version in withdrawn else "")
        try:
            manifest = self._store.load(self._usecase.name, version)[0]
        except CorruptModel:
            return (version, role, "", "damaged", "", "")
        fits = manifest.feature_fingerprint == self._usecase.fingerprint
        failed = _failed(manifest)
        return (
            version,
            role,
            f"{manifest.created_at:%Y-%m-%d %H:%M}",
            manifest.algorithm,
            f"failed {failed}" if failed else "passed",
            "as declared" if fits else "others",
        )


def _role(version: str, current: Deployment | None) -> str:
    return next((role.value for role in Role if current and current.version_of(role) == version), "")


def _failed(manifest: ModelManifest) -> str:
    """The gates that the model failed, in words; empty when it passed all of them."""
    if all_passed(manifest.gates):
        return ""
    failed: Sequence[str] = [gate.name for gate in manifest.gates if not gate.passed]
    return ", ".join(failed) or "it was never measured"
