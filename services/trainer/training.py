"""One training run, from a history to a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from flywheel.adapters.logs import logger
from flywheel.adapters.mlflow_registry import MlflowRegistry
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.contracts.models import Deployment, ModelManifest, Role
from flywheel.contracts.training import GateResult, HistoryBuilt, TrainingFinished
from flywheel.kernel.comparison import highest_lead
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.gates import Demands, Evidence, all_passed, judge, judge_parity, judge_soundness
from flywheel.kernel.ports import CorruptModel, ModelStore
from flywheel.kernel.splits import Split, TooLittleHistory, split_by_time
from services.trainer.appraisal import Appraised, appraise
from services.trainer.learners import SEED, Sample, fit_baseline, fit_trees
from services.trainer.outcome import Outcome
from services.trainer.preparation import Prepared, prepare
from services.trainer.publication import Run, deployment_reason, describe, next_deployment
from services.trainer.training_set import Retrieval, TrainingSet

_DEPLOYED_BY = "trainer"

_Judged = tuple[Appraised, tuple[GateResult, ...]]

_log = logger(__name__)


@dataclass(frozen=True)
class Trainer:
    """Trains a use case's models and promotes those that pass."""

    usecase: UseCase
    lake: Path
    store: ModelStore
    registry: MlflowRegistry
    demands: Demands = field(default_factory=Demands)
    prefers_served: bool = True
    """Whether rows that were decided with complete fresh features are trained on as they were served."""

    def train(self, history: HistoryBuilt, retrieve: Retrieval) -> Outcome:
        """The whole run on one history. Asked again about a request that led to a deployment, it trains nothing.

        Raises TooLittleHistory, IncompleteHistory and FutureLeaked.
        """
        earlier = self._answered(history)
        if earlier is not None:
            return Outcome(earlier, rows=0)
        prepared = self._prepare(history, retrieve)
        examples = prepared.examples
        of_features = (prepared.leakage.gate, judge_parity(history.parity, self.demands, datetime.now(UTC)))
        _log.info("training_set_read", rows=len(examples.labels))
        split = split_by_time(examples.times_us, self.usecase.label.maturity_us)
        stray = int((examples.times_us < split.begins_us).sum())
        if stray:
            _log.info("stray_events_left_out", rows=stray)
        train, calibrate, validate = (_sample(examples, split, part) for part in ("train", "calibrate", "validate"))
        baseline = appraise(fit_baseline(train, calibrate), validate)
        candidate = appraise(fit_trees(train, calibrate), validate)
        budget_ms = self.usecase.budget.model_ms
        gates = (*judge(self._evidence(baseline, candidate, validate), self.demands, budget_ms), *of_features)
        baseline_gates = (*judge_soundness(baseline.soundness, self.demands, budget_ms), *of_features)
        with self.registry.run(self.usecase.name, f"request {history.request_id}") as run_id:
            run = Run(self.usecase, history, run_id, datetime.now(UTC), split.trained_until_us, validate.rows)
            self._record(run, baseline, candidate, split, prepared)
            finished = self._promote(run, (candidate, gates), (baseline, baseline_gates))
        _log.info("training_finished", version=finished.version, deployed=finished.deployed, rows=len(examples.labels))
        return Outcome(finished, rows=len(examples.labels))

    def _prepare(self, history: HistoryBuilt, retrieve: Retrieval) -> Prepared:
        return prepare(
            self.lake, self.usecase, history, retrieve, reads_same=self._reads_same, prefers_served=self.prefers_served
        )

    def _reads_same(self, version: str) -> bool:
        try:
            return self.store.load(self.usecase.name, version)[0].feature_fingerprint == self.usecase.fingerprint
        except (KeyError, CorruptModel):
            return False

    def _answered(self, history: HistoryBuilt) -> TrainingFinished | None:
        """The answer of an earlier run that deployed. If that was ended before the roles were assigned, they are."""
        reason = deployment_reason(history)
        deployments = self.store.deployments(self.usecase.name)
        for deployment in deployments:
            if deployment.reason == reason:
                manifest, _ = self.store.load(self.usecase.name, _newcomer(deployment))
                if deployment == deployments[-1]:
                    self._assign_roles(deployment)
                return TrainingFinished(
                    request_id=history.request_id,
                    finished_at=deployment.deployed_at,
                    version=manifest.version,
                    deployed=True,
                    gates=manifest.gates,
                )
        return None

    def _evidence(self, baseline: Appraised, candidate: Appraised, validate: Sample) -> Evidence:
        return Evidence(
            validation_positives=int(validate.labels.sum()),
            average_precision=candidate.metrics["average_precision"],
            baseline_average_precision=baseline.metrics["average_precision"],
            lead_over_champion=self._lead_over_champion(candidate, validate),
            soundness=candidate.soundness,
        )

    def _lead_over_champion(self, candidate: Appraised, validate: Sample) -> float | None:
        """On the same rows; None without a comparable champion, NaN, so the gate fails, if it cannot run."""
        current = self.store.current(self.usecase.name)
        if current is None:
            return None
        try:
            manifest, model = self.store.load(self.usecase.name, current.champion)
            if manifest.feature_fingerprint != self.usecase.fingerprint:
                return None
            theirs = OnnxScorer(model).score(validate.rows)
            return highest_lead(validate.labels, candidate.scores, theirs, seed=SEED)
        except (KeyError, CorruptModel) as error:
            _log.error("champion_not_judged", version=current.champion, reason=str(error))
            return float("nan")

    def _record(self, run: Run, baseline: Appraised, candidate: Appraised, split: Split, prepared: Prepared) -> None:
        metrics = {f"baseline_{name}": value for name, value in baseline.metrics.items()}
        metrics |= (
            prepared.metrics | candidate.metrics | {"onnx_parity": candidate.parity, "score_ms": candidate.score_ms}
        )
        parts = {f"{name}_rows": int(getattr(split, name).sum()) for name in ("train", "calibrate", "validate")}
        self.registry.log(
            run.mlflow_run_id,
            candidate.fitted.parameters() | parts | prepared.parameters,
            {name: value for name, value in metrics.items() if math.isfinite(value)},
            {"snapshot_id": run.history.snapshot_id, "reason": run.history.reason},
        )
        self.registry.attach(run.mlflow_run_id, "served_features.json", prepared.parity.to_json())

    def _promote(self, run: Run, candidate: _Judged, baseline: _Judged) -> TrainingFinished:
        """Registers the candidate, and deploys it if it passed; the baseline may be the challenger if it passed too."""
        manifest, fallback = describe(run, *candidate), describe(run, *baseline)
        self._publish(manifest, candidate[0].model)
        if not all_passed(manifest.gates):
            return _finished(run, manifest, deployed=False)
        standby = fallback.version if all_passed(fallback.gates) else None
        deployment = next_deployment(self.store, run, champion=manifest.version, baseline=standby, by=_DEPLOYED_BY)
        if deployment.challenger == fallback.version:
            self._publish(fallback, baseline[0].model)
        # Another process may have answered meanwhile; should one do so now, the store refuses the sequence number.
        earlier = self._answered(run.history)
        if earlier is not None:
            return earlier
        self.store.deploy(deployment)
        self._assign_roles(deployment)
        return _finished(run, manifest, deployed=True)

    def _publish(self, manifest: ModelManifest, model: bytes) -> None:
        self.registry.register(manifest, model)
        self.store.publish(manifest, model)

    def _assign_roles(self, deployment: Deployment) -> None:
        for role in Role:
            version = deployment.version_of(role)
            try:
                self.registry.assign(deployment.usecase, role, version)
            except KeyError as error:
                # What was not trained here, a smaller form of a model for one, is no version of the registry's.
                _log.warning("role_not_registered", role=role, version=version, reason=str(error))


def _newcomer(deployment: Deployment) -> str:
    """The version that a deployment of the trainer's brought in."""
    return deployment.canary or deployment.champion


def _finished(run: Run, manifest: ModelManifest, *, deployed: bool) -> TrainingFinished:
    return TrainingFinished(
        request_id=run.history.request_id,
        finished_at=datetime.now(UTC),
        version=manifest.version,
        deployed=deployed,
        gates=manifest.gates,
    )


def _sample(examples: TrainingSet, split: Split, part: str) -> Sample:
    mask = getattr(split, part)
    sample = Sample(examples.rows[mask], examples.labels[mask])
    if not sample.labels.any() or sample.labels.all():
        raise TooLittleHistory(f"the {len(sample.labels)} rows to {part} on are all of one kind")
    return sample
