"""A log as the loop writes it, made from a seed: decisions, labels, payments and runs for the monitor to read."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from flywheel.adapters.memory_log import MemoryBroker, MemoryReader
from flywheel.adapters.memory_model_store import MemoryModelStore
from flywheel.contracts.decisions import DecisionLogged, Fallback, FeatureStatus, Step
from flywheel.contracts.events import Envelope
from flywheel.contracts.messages import Message
from flywheel.contracts.models import Deployment, ModelManifest, Role
from flywheel.contracts.parity import FeatureMismatches, ParityReport
from flywheel.contracts.topics import decisions_topic, event_topic, parity_topic, training_results_topic
from flywheel.contracts.training import GateResult, TrainingFinished, TrainingRequested
from flywheel.kernel import drift
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.experiment import assign
from flywheel.kernel.gates import FEATURE_PARITY, NOT_MEASURED
from flywheel.kernel.model_integrity import digest_of
from flywheel.kernel.policy import choose, expected_costs
from flywheel.kernel.ports import ModelStore
from services.monitor.bootstrap import Monitor, build
from services.monitor.settings import MonitorSettings
from usecases.fraud import usecase
from usecases.fraud.events import Chargeback, Transaction

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
START = datetime(2018, 6, 1, tzinfo=UTC)
CHAMPION, CHALLENGER = "v3", "v4"
MODEL = b"a model"
LOAD_AGE_MS = 3 * 86_400_000.0
"""How old the attributes are that a decision finds loaded."""


@dataclass
class Scene:
    """One seeded world around a monitor. Nothing is in the log before something is written."""

    seed: int = 7
    per_day: int = 800
    cards: int = 400
    declared: UseCase = usecase
    """By the name of the other; a monitor has to find it in the catalog."""
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    models: ModelStore = field(default_factory=MemoryModelStore)
    requests: list[TrainingRequested] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._decided = 0

    def monitor(self, **settings: object) -> Monitor:
        """A monitor that reads this log from its beginning, at the scene's own time."""
        chosen = {
            "monitor_quality_refresh_s": 0.0,
            "monitor_catalogue_refresh_s": 0.0,
            "monitor_refresh_s": 0.1,
            **settings,
        }
        return build(
            MonitorSettings(_env_file=None, **chosen),  # type: ignore[arg-type]
            connect=lambda topics: MemoryReader(self.broker, topics, "monitor"),
            models=self.models,
            request_training=self.requests.append,
            clock=lambda: NOW,
        )

    def deploy(self, *, challenger: bool = True, published_auc: float = 0.9) -> None:
        """Publishes both models with their training reference and deploys them."""
        labels, scores, features, _ = self._draw(20_000)
        for version in (CHAMPION, CHALLENGER):
            self.models.publish(_manifest(self.declared, version, scores, features, published_auc), MODEL)
        self.models.deploy(
            Deployment(
                sequence=1,
                usecase=usecase.name,
                deployed_at=NOW - timedelta(days=1),
                deployed_by="trainer",
                reason="all gates passed",
                champion=CHAMPION,
                challenger=CHALLENGER if challenger else None,
                challenger_share=0.2 if challenger else 0.0,
                salt="scene",
            )
        )
        assert labels.any()

    def days(self, first: int, number: int, *, amounts_times: float = 1.0, blind: bool = False) -> None:
        """Writes whole days of event time: payments, decisions and the chargebacks two to six days after."""
        n = number * self.per_day
        labels, scores, features, amounts = self._draw(n, amounts_times=amounts_times)
        if blind:
            scores = self._rng.permutation(scores)
        offsets_s = np.sort(self._rng.uniform(0, number * 86_400, n))
        cards = self._rng.integers(0, self.cards, n)
        for index in range(n):
            event_time = START + timedelta(days=first, seconds=float(offsets_s[index]))
            wall = NOW - timedelta(seconds=float((n - index) / 40))
            self._write(
                event_time, wall, f"c{cards[index]:06d}", float(amounts[index]), float(scores[index]), features[index]
            )
            if labels[index]:
                self.charge_back(
                    self.transaction_id(self._decided), event_time + timedelta(days=float(self._rng.uniform(2, 6)))
                )

    def decide(
        self, arm: Role, card: str, fallback: Fallback, *, step: Step | None = None, seconds_ago: float = 0.0
    ) -> None:
        """Writes one decision of that arm, made now or so long ago."""
        _, scores, features, amounts = self._draw(1)
        at = NOW - timedelta(seconds=seconds_ago)
        self._write(START, at, card, float(amounts[0]), float(scores[0]), features[0], arm, fallback, step)

    def transaction_id(self, number: int) -> str:
        """The id of the payment that was decided as the n-th; other seeds have other ids."""
        return f"tx-{self.seed}-{number}"

    def charge_back(self, transaction_id: str, at: datetime) -> None:
        """Writes one label."""
        event = Chargeback(
            event_id=f"cb-{transaction_id}",
            event_time=at,
            transaction_id=transaction_id,
            card_id="c1",
            terminal_id="t1",
            amount_cents=100,
        )
        self._append(
            event_topic(usecase.name, "chargeback").name, Envelope.seal(event, ingest_time=NOW, request_id="r")
        )

    def training_run(self, *, deployed: bool = True) -> None:
        """Writes how a training run ended."""
        run = TrainingFinished(
            request_id=f"run-{deployed}",
            finished_at=NOW - timedelta(hours=3),
            version=CHALLENGER,
            deployed=deployed,
            gates=(
                GateResult(name="beats_baseline", passed=True, value=0.042, demand="> 0"),
                GateResult(name="onnx_parity", passed=deployed, value=3.1e-7, demand="<= 1e-5"),
                GateResult(name=FEATURE_PARITY, passed=True, value=NOT_MEASURED, demand="not measured yet"),
            ),
        )
        self._append(training_results_topic(usecase.name).name, run)

    def compare(self, *mismatched: FeatureMismatches) -> None:
        """Writes a report of parity, with these features served otherwise than recomputed."""
        report = ParityReport(
            usecase=usecase.name,
            since=NOW - timedelta(hours=1),
            until=NOW - timedelta(seconds=40),
            decisions=1_950,
            values=48_000,
            undecidable=731,
            stale_values=25,
            stale_mismatches=2,
            skipped={"event_not_archived": 3},
            mismatched=mismatched,
        )
        self._append(parity_topic(usecase.name).name, report)

    def _write(
        self,
        at: datetime,
        wall: datetime,
        card: str,
        amount: float,
        score: float,
        row: NDArray[np.float64],
        arm: Role | None = None,
        fallback: Fallback | None = None,
        step: Step | None = None,
    ) -> None:
        self._decided += 1
        payment = Transaction(
            event_id=self.transaction_id(self._decided),
            event_time=at,
            card_id=card,
            terminal_id="t1",
            amount_cents=int(amount),
        )
        envelope = Envelope.seal(payment, ingest_time=wall, request_id="r")
        self._append(event_topic(usecase.name, "transaction").name, envelope)
        arm = arm or assign(card, "scene", 0.2)
        fallback = fallback or (Fallback.DEADLINE if self._decided % 500 == 0 else Fallback.NONE)
        # Of each fourth payment nothing was loaded.
        is_loaded, tables = self._decided % 4 != 0, [table.name for table in self.declared.attribute_tables]
        features_ms, model_ms = self._rng.gamma(2, 0.4), self._rng.gamma(2, 0.05)
        decision = DecisionLogged(
            decision_id=f"d-{self._decided}",
            request_id="r",
            usecase=usecase.name,
            event_id=payment.event_id,
            event_time=at,
            decided_at=wall,
            unit=card,
            arm=arm,
            model_version=CHAMPION if arm == "champion" else CHALLENGER,
            score=score,
            action=choose(expected_costs(usecase.costs, score, amount)),
            reasons=("terminal_has_chargebacks",) if score > 0.3 else (),
            fallback=fallback,
            step=step,
            feature_names=self.declared.feature_names,
            features=self._features(row, is_loaded),
            feature_status={"card": FeatureStatus.FRESH, "terminal": FeatureStatus.FRESH}
            | dict.fromkeys(tables, FeatureStatus.FRESH if is_loaded else FeatureStatus.MISSING),
            feature_age_ms=dict.fromkeys(tables if is_loaded else (), LOAD_AGE_MS),
            feature_lag_ms=float(self._rng.gamma(3, 250)),
            stage_ms={
                "features": features_ms,
                "model": model_ms,
                "policy": 0.05,
                "total": features_ms + model_ms + 0.05,
            },
            value=amount,
            writer="w1",
            sequence=self._decided,
        )
        self._append(decisions_topic(usecase.name).name, decision)

    def _features(self, row: NDArray[np.float64], is_loaded: bool) -> tuple[float, ...]:
        defaults = {} if is_loaded else {feature.name: feature.default for feature in self.declared.attributes}
        found = dict(zip(self.declared.feature_names, row.tolist(), strict=True))
        return tuple((found | defaults).values())

    def _append(self, topic: str, message: Message | Envelope) -> None:
        self.broker.append(topic, b"key", message.to_bytes())

    def _draw(
        self, n: int, *, amounts_times: float = 1.0
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Labels, scores, feature rows and amounts."""
        rng = self._rng
        labels = rng.random(n) < 0.03
        logits = rng.normal(-6.5, 1.2, n) + labels * rng.normal(6.5, 2.5, n)
        amounts = np.maximum(rng.gamma(2.0, 2_600, n) * (1 + 2 * labels) * amounts_times, 50).round()
        rates = {"1m": 0.02, "1h": 0.2, "24h": 3, "7d": 17, "30d": 75}
        columns = [
            amounts if "amount" in name else rng.poisson(rates.get(name.rsplit("_", 1)[-1], 1), n).astype(float)
            for name in self.declared.feature_names
        ]
        hour = self.declared.feature_names.index("hour_of_day")
        columns[hour] = np.clip(rng.normal(12, 5, n), 0, 23).round()
        return labels, 1 / (1 + np.exp(-logits - 0.8 * (amounts_times - 1))), np.stack(columns, axis=1), amounts


def _manifest(
    usecase: UseCase, version: str, scores: NDArray[np.float64], features: NDArray[np.float64], auc: float
) -> ModelManifest:
    return ModelManifest(
        usecase=usecase.name,
        version=version,
        algorithm="lightgbm",
        created_at=NOW - timedelta(days=2),
        feature_names=usecase.feature_names,
        feature_fingerprint=usecase.fingerprint,
        digest=digest_of(MODEL),
        snapshot_id="s1",
        code_commit="0000000",
        trained_until=START,
        metrics={"auc": auc, "average_precision": 0.6},
        gates=(),
        reference={name: drift.histogram(features[:, i]) for i, name in enumerate(usecase.feature_names)},
        score_reference=drift.histogram(scores),
        golden_inputs=(),
        golden_scores=(),
        mlflow_run_id="run",
        importance={name: 1 / 2**place for place, name in enumerate(usecase.feature_names, 1)},
    )
