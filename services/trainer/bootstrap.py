"""Puts the trainer together; the only place that chooses its parts."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from flywheel.adapters import logs
from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.kafka_reader import KafkaReader
from flywheel.adapters.kafka_topics import publish
from flywheel.contracts.topics import history_topic, training_results_topic
from flywheel.contracts.training import HistoryBuilt, TrainingFinished
from flywheel.kernel import catalog
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.plan import FeaturePlan, compile_plan
from services.trainer.isolation import Isolated
from services.trainer.outcome import Outcome
from services.trainer.reception import Reception
from services.trainer.settings import TrainerSettings

if TYPE_CHECKING:
    from services.trainer.training_set import Retrieval

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
    from flywheel.adapters.mlflow_registry import MlflowRegistry
    from services.trainer.training import Trainer

    logs.configure("trainer", settings.log_level)
    usecase = catalog.load(settings.usecase)
    trainer = Trainer(
        usecase,
        settings.lake_dir,
        FileModelStore(settings.model_dir),
        MlflowRegistry(settings.mlflow_store, settings.data_dir / "mlflow" / "artifacts"),
        prefers_served=settings.training_prefers_served,
    )
    return trainer.train(history, _retrieval(settings, usecase, history))


def _retrieval(settings: TrainerSettings, usecase: UseCase, history: HistoryBuilt) -> Retrieval:
    """Windows by the join that the settings name, on the history's snapshot; attributes from their loads."""
    from flywheel.adapters.attribute_lake import AttributeLake
    from flywheel.adapters.point_in_time import JoinLimits

    windows = _windows(settings, compile_plan(usecase), history.snapshot_id)
    limits = JoinLimits(settings.training_join_memory_mib, settings.data_dir / "scratch" / "trainer")
    lake = AttributeLake(settings.lake_dir / usecase.name, limits)
    until = history.arrived_until
    return lambda requests: lake.known_at(windows(requests), usecase.attribute_tables, loaded_until=until)


def _windows(settings: TrainerSettings, plan: FeaturePlan, snapshot_id: str) -> Retrieval:
    spill = settings.data_dir / "scratch" / "trainer"
    if settings.training_join == "feast":
        # Feast takes seconds to import.
        from flywheel.adapters.duckdb_limits import limit_memory
        from flywheel.adapters.feast_repo import training_table

        limit_memory(settings.training_join_memory_mib, spill)
        return lambda requests: training_table(settings, plan, requests, snapshot_id)
    from flywheel.adapters.history_layout import history_sources
    from flywheel.adapters.point_in_time import JoinLimits, join_point_in_time

    sources = history_sources(settings, plan, snapshot_id)
    limits = JoinLimits(settings.training_join_memory_mib, spill)
    return lambda requests: join_point_in_time(requests, sources, limits)
