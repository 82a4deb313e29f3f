"""Leads a canary: compares it with the champion, lets it take the next step, or takes it back.

The deployment log is the only pointer. Whoever appends first wins, be it an operator or another monitor; the other
one looks again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flywheel.adapters.logs import logger
from flywheel.contracts.events import to_us
from flywheel.contracts.metrics import MONITOR_ROLLOUT_STEPS
from flywheel.contracts.models import Deployment, Role
from flywheel.kernel import deployment as entries
from flywheel.kernel.canary import CanaryStep, Step, Verdict
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.deployment import Author
from flywheel.kernel.ports import ModelStore
from flywheel.kernel.rollout import Rollout
from services.monitor.arms import Arms
from services.monitor.state import Canary

_BY = "monitor"

_log = logger(__name__)


@dataclass
class _Followed:
    deployment: Deployment
    step: CanaryStep
    judged_decisions: int = 0
    crossed: str | None = None


class CanaryWatch:
    """The canary of the newest deployment, if it has one. With `enabled` off it is only shown."""

    def __init__(self, usecase: UseCase, models: ModelStore, arms: Arms, *, enabled: bool) -> None:
        self._usecase = usecase.name
        self._rollout = usecase.rollout or Rollout()
        self._models = models
        self._arms = arms
        self._enabled = enabled
        self._deployment: Deployment | None = None
        self._followed: _Followed | None = None

    def follow(self, deployment: Deployment | None) -> None:
        """What the arms do counts from this deployment on; to be told before their decisions are read."""
        if deployment is not None and deployment != self._deployment:
            self._deployment = deployment
            self._arms.begin(to_us(deployment.deployed_at))

    def consider(self, deployment: Deployment | None, now: datetime) -> None:
        """Looks whether something is to be done about the canary, and does it."""
        self.follow(deployment)
        if not self._enabled or deployment is None or deployment.canary is None:
            self._followed = None
            return
        if self._followed is None or self._followed.deployment != deployment:
            self._followed = _Followed(deployment, CanaryStep(self._rollout, deployment.canary_share))
        lasted_s = (now - deployment.deployed_at).total_seconds()
        step = self._followed.step
        newest_us = self._arms.newest_us(Role.CANARY, deployment.canary)
        unmet = self._arms.units(Role.CHAMPION, deployment.champion, newest_us)
        if not step.due(self._arms.number(Role.CANARY, deployment.canary), unmet, lasted_s):
            return
        champion = self._arms.seen(Role.CHAMPION, deployment.champion)
        canary = self._arms.seen(Role.CANARY, deployment.canary)
        verdict = step.judge(champion, canary, unmet, lasted_s)
        self._followed.judged_decisions = canary.decisions
        if verdict.step is Step.ROLL_BACK:
            self._followed.crossed = verdict.reason
        self._follow(verdict, deployment, now)

    def state(self, deployment: Deployment | None, now: datetime) -> Canary | None:
        """As the console shows it."""
        if deployment is None or deployment.canary is None:
            return None
        followed = self._followed if self._followed and self._followed.deployment == deployment else None
        champion, canary = self._arms.totals(Role.CHAMPION), self._arms.totals(Role.CANARY)
        return Canary(
            version=deployment.canary,
            share=deployment.canary_share,
            next_share=self._rollout.after(deployment.canary_share),
            decisions=self._arms.number(Role.CANARY, deployment.canary),
            decisions_needed=self._rollout.decisions,
            lasted_s=(now - deployment.deployed_at).total_seconds(),
            lasts_s=self._rollout.step_lasts_s,
            judged=self._enabled,
            judged_decisions=followed.judged_decisions if followed else 0,
            crossed=followed.crossed if followed else None,
            fallback_share=canary.fallback_share,
            champion_fallback_share=champion.fallback_share,
            late=canary.unanswered,
            champion_late=champion.unanswered,
        )

    def _follow(self, verdict: Verdict, deployment: Deployment, now: datetime) -> None:
        if verdict.step is Step.CONTINUE:
            return
        try:
            following = self._entry(
                verdict, deployment, Author(_BY, now, f"canary {deployment.canary}: {verdict.reason}")
            )
            self._models.deploy(following)
        except (OSError, ValueError) as error:
            _log.warning("canary_step_not_taken", step=verdict.step, canary=deployment.canary, error=str(error))
            return
        MONITOR_ROLLOUT_STEPS.labels(self._usecase, verdict.step).inc()
        told = _log.error if verdict.step is Step.ROLL_BACK else _log.info
        told("canary_step", step=verdict.step, canary=deployment.canary, reason=verdict.reason)

    def _entry(self, verdict: Verdict, deployment: Deployment, author: Author) -> Deployment:
        if verdict.step is Step.ADVANCE:
            return entries.advanced(deployment, self._rollout, author)
        return entries.rolled_back([deployment], author)
