"""Puts the state together from what was seen, what is deployed and what time it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

import orjson

from flywheel.adapters.logs import Pseudonyms, logger
from flywheel.contracts.events import from_us, to_us
from flywheel.contracts.models import Deployment
from flywheel.contracts.training import GateResult, TrainingFinished, TrainingRequested
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.gates import NOT_MEASURED
from flywheel.kernel.maturity import Outcomes
from flywheel.kernel.ports import Unavailable
from services.monitor import outcomes as matured_outcomes
from services.monitor import traffic
from services.monitor.deployed import Deployed
from services.monitor.observations import Observations
from services.monitor.parity import parity_of
from services.monitor.retraining import RetrainingTrigger
from services.monitor.rollout import CanaryWatch
from services.monitor.shifts import DriftWatch
from services.monitor.state import (
    Comparison,
    DayQuality,
    Drift,
    Evidence,
    Gate,
    Loop,
    Maturity,
    Mix,
    Quality,
    State,
    TrainingRun,
)

_LAST_SHOWN = 12
_STAGES_SHOWN = 2_000

_log = logger(__name__)

Publish = Callable[[TrainingRequested], None]
"""Puts a request into the log durably; raises Unavailable."""


@dataclass(frozen=True)
class Reading:
    """How the reading of the log goes. `lag_records` is None while the broker does not answer."""

    lag_records: int | None
    catching_up: bool


@dataclass(frozen=True)
class _Truth:
    """What is measured on the whole ledger, and so less often."""

    measured_at: datetime
    deployment: Deployment | None
    maturity: Maturity
    overall: Quality
    champion: Quality
    by_day: tuple[DayQuality, ...]
    experiment: Comparison | None


class Overview:
    """Computes the state on demand; everything it reads belongs to the thread that calls it."""

    def __init__(
        self,
        usecase: UseCase,
        observations: Observations,
        deployed: Deployed,
        watch: DriftWatch,
        trigger: RetrainingTrigger,
        canary: CanaryWatch,
        *,
        publish: Publish,
        pseudonyms: Pseudonyms,
        restarts_file: Path,
        quality_every: timedelta,
    ) -> None:
        self._usecase = usecase
        self._observations = observations
        self._deployed = deployed
        self._watch = watch
        self._trigger = trigger
        self._canary = canary
        self._publish = publish
        self._pseudonyms = pseudonyms
        self._restarts_file = restarts_file
        self._quality_every = quality_every
        self._truth: _Truth | None = None

    def state(self, reading: Reading, now: datetime) -> State:
        """The state now. On the way, once the log was read up to its end, it asks for retraining when
        that is due and leads the canary."""
        seen = self._observations
        self._deployed.refresh()
        self._canary.follow(self._deployed.deployment)
        outcomes = seen.ledger.outcomes()
        truth = self._measured(outcomes, now)
        mix = traffic.decision_mix(seen.recent, outcomes, now)
        drift = self._watch.look(seen.recent, seen.decisions, self._deployed.manifest)
        if not reading.catching_up:
            self._consider_retraining(truth, drift, now)
            self._canary.consider(self._deployed.deployment, now)
        newest = list(seen.recent)[-_STAGES_SHOWN:]
        return State(
            usecase=self._usecase.name,
            title=self._usecase.title,
            simulated=bool(self._usecase.world),
            generated_at=now,
            loop=self._loop(reading, mix, now),
            evidence=Evidence(**asdict(seen.account.state(to_us(now)))),
            model=self._deployed.state(),
            mix=mix,
            stages=traffic.stages(newest, self._usecase),
            freshness=traffic.freshness(newest, self._usecase),
            parity=parity_of(seen.parity),
            drift=drift,
            maturity=truth.maturity,
            quality=truth.overall,
            quality_by_day=truth.by_day,
            experiment=truth.experiment,
            canary=self._canary.state(self._deployed.deployment, now),
            shadow=seen.shadows.state(self._deployed.deployment),
            last_decisions=traffic.last_decisions(seen.recent, self._pseudonyms, _LAST_SHOWN),
            training_runs=tuple(_run(run) for run in reversed(seen.runs)),
            retraining=self._trigger.state,
        )

    def _measured(self, outcomes: Outcomes, now: datetime) -> _Truth:
        known, deployment = self._truth, self._deployed.deployment
        # Another deployment has other arms: what was measured of the one before would be shown beside its roles.
        if known is not None and known.deployment == deployment and now - known.measured_at < self._quality_every:
            return known
        matured = outcomes.where(outcomes.matured)
        policy = None if self._usecase.ranks else self._usecase.costs
        self._truth = _Truth(
            measured_at=now,
            deployment=deployment,
            maturity=matured_outcomes.maturity(self._observations.ledger, outcomes, self._usecase.label.matures_after),
            overall=matured_outcomes.quality(matured, policy),
            champion=matured_outcomes.quality(_by_version(matured, deployment.champion if deployment else ""), policy),
            by_day=matured_outcomes.quality_by_day(matured, policy),
            experiment=matured_outcomes.compare_arms(outcomes, deployment, self._usecase),
        )
        return self._truth

    def _consider_retraining(self, truth: _Truth, drift: Drift, now: datetime) -> None:
        finished = max((run.finished_at for run in self._observations.runs), default=None)
        request = self._trigger.consider(drift, truth.champion, self._deployed.manifest, finished, now)
        if request is None:
            return
        try:
            self._publish(request)
        except Unavailable as error:
            _log.warning("retraining_not_requested", reason=request.reason, error=str(error))
            return
        self._trigger.requested(request)
        _log.info("retraining_requested", request_id=request.request_id, reason=request.reason)

    def _loop(self, reading: Reading, mix: Mix, now: datetime) -> Loop:
        seen = self._observations
        fallback_share, fallback_step = traffic.falling_back(seen.recent, now)
        watermark_us = seen.ledger.watermark_us
        return Loop(
            event_time=None if watermark_us is None else from_us(watermark_us),
            events=seen.events,
            decisions=seen.decisions,
            labels=seen.counts["labels"],
            repeats=seen.counts["repeats"],
            unreadable=seen.counts["unreadable"],
            lag_records=reading.lag_records,
            catching_up=reading.catching_up,
            decisions_per_second=traffic.decisions_per_second(mix),
            fallback_share=fallback_share,
            fallback_step=fallback_step,
            broker_answers=reading.lag_records is not None,
            restarts=_restarts(self._restarts_file),
        )


def _by_version(matured: Outcomes, version: str) -> Outcomes:
    code = matured.versions.index(version) if version in matured.versions else -1
    return matured.where((matured.version == code) & ~matured.fallback)


def _run(run: TrainingFinished) -> TrainingRun:
    return TrainingRun(
        finished_at=run.finished_at,
        version=run.version,
        deployed=run.deployed,
        gates=tuple(_gate(gate) for gate in run.gates),
        error=run.error,
    )


def _gate(gate: GateResult) -> Gate:
    measured = None if gate.value == NOT_MEASURED else gate.value
    return Gate(name=gate.name, passed=gate.passed, value=measured, demand=gate.demand)


def _restarts(path: Path) -> dict[str, int]:
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        # Not there where something else supervises the processes, half-written for a moment where ours does.
        return {}
    return {str(name): int(count) for name, count in found.items()} if isinstance(found, dict) else {}
