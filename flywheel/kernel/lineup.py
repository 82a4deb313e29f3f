"""Which models answer right now, and which of them a unit meets."""

from __future__ import annotations

from dataclasses import dataclass

from flywheel.contracts.models import Role
from flywheel.kernel.experiment import assign
from flywheel.kernel.ports import Scorer


@dataclass(frozen=True)
class LoadedModel:
    """A model that was checked and warmed up; its columns are in the declared order."""

    version: str
    scorer: Scorer


@dataclass(frozen=True)
class Lineup:
    """The models in service. Replaced whole, so that a decision never sees half a change."""

    champion: LoadedModel | None = None
    challenger: LoadedModel | None = None
    challenger_share: float = 0.0
    salt: str = ""
    sequence: int = 0
    """Number of the deployment it comes from; 0 before the first."""

    def pick(self, unit: str) -> tuple[Role, LoadedModel | None]:
        """The arm of a unit and the model that serves it."""
        if self.challenger is None or assign(unit, self.salt, self.challenger_share) is Role.CHAMPION:
            return Role.CHAMPION, self.champion
        return Role.CHALLENGER, self.challenger

    def models(self) -> tuple[tuple[Role, LoadedModel], ...]:
        """What is loaded, by role."""
        roles = ((Role.CHAMPION, self.champion), (Role.CHALLENGER, self.challenger))
        return tuple((role, model) for role, model in roles if model is not None)
