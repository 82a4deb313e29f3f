"""Which models answer right now, and which of them a unit meets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from flywheel.contracts.models import Role
from flywheel.kernel.experiment import assign
from flywheel.kernel.ports import Scorer


@dataclass(frozen=True)
class LoadedModel:
    """A model that was checked and warmed up; its columns are in the declared order."""

    version: str
    scorer: Scorer
    components: Mapping[str, Scorer] = field(default_factory=dict)
    """All that the version consists of, by name; `scorer` runs one of them or a chain."""


class Pick(NamedTuple):
    """What a unit meets: its arm, the model that answers there, and the share of units that meet this arm."""

    arm: Role
    model: LoadedModel | None
    propensity: float


@dataclass(frozen=True)
class Lineup:
    """The models in service. Replaced whole, so that a decision never sees half a change."""

    champion: LoadedModel | None = None
    challenger: LoadedModel | None = None
    challenger_share: float = 0.0
    salt: str = ""
    sequence: int = 0
    """Number of the deployment it comes from; 0 before the first."""
    canary: LoadedModel | None = None
    canary_share: float = 0.0
    shadow: LoadedModel | None = None

    def pick(self, unit: str) -> Pick:
        """The arm of a unit; nothing is hashed where there is but one."""
        champion, challenger, canary = self._picks
        if challenger is None and canary is None:
            return champion
        role = assign(unit, self.salt, *self._shares)
        if role is Role.CHAMPION:
            return champion
        return (challenger if role is Role.CHALLENGER else canary) or champion

    def models(self) -> tuple[tuple[Role, LoadedModel], ...]:
        """What is loaded, by role."""
        roles = (
            (Role.CHAMPION, self.champion),
            (Role.CHALLENGER, self.challenger),
            (Role.CANARY, self.canary),
            (Role.SHADOW, self.shadow),
        )
        return tuple((role, model) for role, model in roles if model is not None)

    def without(self, role: Role) -> Lineup:
        """The same line-up where the champion answers for that challenger or canary, or nothing runs in shadow."""
        if role is Role.CHALLENGER:
            return replace(self, challenger=None, challenger_share=0.0)
        return replace(self, canary=None, canary_share=0.0) if role is Role.CANARY else replace(self, shadow=None)

    @cached_property
    def _picks(self) -> tuple[Pick, Pick | None, Pick | None]:
        """What champion, challenger and canary give; None for an arm that nobody meets."""
        arms = (
            (Role.CHALLENGER, self.challenger, self.challenger_share),
            (Role.CANARY, self.canary, self.canary_share),
        )
        challenger, canary = (
            Pick(role, model, share) if model is not None and share > 0 else None for role, model, share in arms
        )
        rest = 1.0 - sum(pick.propensity for pick in (challenger, canary) if pick)
        return Pick(Role.CHAMPION, self.champion, rest), challenger, canary

    @cached_property
    def _shares(self) -> tuple[float, float]:
        _, challenger, canary = self._picks
        return challenger.propensity if challenger else 0.0, canary.propensity if canary else 0.0
