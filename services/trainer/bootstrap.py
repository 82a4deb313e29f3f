"""Puts the trainer together; the only place that chooses its parts."""

from __future__ import annotations

import threading

from flywheel.adapters import logs
from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.kafka_reader import KafkaReader
from flywheel.adapters.kafka_topics import publish
from flywheel.contracts.topics import history_topic, training_results_topic
from flywheel.contracts.training import HistoryBuilt, TrainingFinished
from flywheel.kernel import catalog
from flywheel.kernel.plan import compile_plan
from services.trainer.isolation import Isolated
from services.trainer.outcome import Outcome
from services.trainer.reception import Reception
from services.trainer.settings import TrainerSettings

_COMMIT_WITHIN_S = 120.0


def build(settings: TrainerSettings, stop: threading.Event) -> tuple[Reception, KafkaReader]:
    """The trainer of one use case on the broker that the settings name, and the reader to close after it."""
    reader = KafkaReader(
        settings.kafka_bootstrap,
        [history_topic(settings.usecase).name],
        group=f"{settings.usecase}-trainer",
        # Polling pauses while a model is trained; the group must not take that for a death.
        processing_limit_s=settings.training_timeout_s + _COMMIT_WITHIN_S,
    )
    apart = Isolated(train, timeout_s=settings.training_timeout_s, stop=stop)
    results = training_results_topic(settings.usecase).name

    def announce(finished: TrainingFinished) -> None:
        publish(settings.kafka_bootstrap, results, settings.usecase.encode(), finished.to_bytes())

    return Reception(settings.usecase, reader, lambda history: apart(settings, history), announce, stop), reader


def train(settings: TrainerSettings, history: HistoryBuilt) -> Outcome:
    """One training run on the real parts; called in a process of its own."""
    # Imported here alone: half a gigabyte that the waiting service does not need.
    from flywheel.adapters.duckdb_limits import limit_memory
    from flywheel.adapters.feast_repo import training_frame
    from flywheel.adapters.mlflow_registry import MlflowRegistry
    from services.trainer.training import Trainer

    logs.configure("trainer", settings.log_level)
    limit_memory(settings.training_join_memory_mib, settings.data_dir / "scratch" / "trainer")
    usecase = catalog.load(settings.usecase)
    plan = compile_plan(usecase)
    trainer = Trainer(
        usecase,
        settings.lake_dir,
        FileModelStore(settings.model_dir),
        MlflowRegistry(settings.mlflow_store, settings.data_dir / "mlflow" / "artifacts"),
    )
    return trainer.train(history, lambda requests: training_frame(settings, plan, requests, history.snapshot_id))
