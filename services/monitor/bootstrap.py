"""Puts the monitor together: the only place that knows which technology stands behind which port."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fastapi import FastAPI

from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.kafka_reader import KafkaReader
from flywheel.adapters.kafka_topics import publish
from flywheel.adapters.logs import Pseudonyms
from flywheel.contracts.topics import training_requests_topic
from flywheel.contracts.training import TrainingRequested
from flywheel.kernel import catalog
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.ports import ModelStore, RecordReader
from services.monitor.catalogue import Catalogue
from services.monitor.deployed import Deployed
from services.monitor.observations import Observations
from services.monitor.overview import Overview, Publish
from services.monitor.published import Published
from services.monitor.retraining import RetrainingTrigger
from services.monitor.rollout import CanaryWatch
from services.monitor.settings import MonitorSettings
from services.monitor.shifts import DriftWatch
from services.monitor.watch import Watch
from services.monitor.web import create_app

Connect = Callable[[tuple[str, ...]], RecordReader]
"""Opens a reader of those topics, from their beginning."""


@dataclass(frozen=True)
class Monitor:
    """The parts of a running monitor. `watch` is started and stopped by whoever runs the app."""

    watch: Watch
    app: FastAPI


def build(
    settings: MonitorSettings,
    *,
    connect: Connect | None = None,
    models: ModelStore | None = None,
    request_training: Publish | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Monitor:
    """A monitor on the engines that the settings name, or on those given."""
    usecase = catalog.load(settings.usecase)
    store = models or FileModelStore(settings.model_dir)
    deployed = Deployed(store, usecase.name)
    observations = Observations(
        usecase,
        EraseKey(settings.erasure_key.encode(), usecase.name),
        window=settings.monitor_window,
        capacity=settings.monitor_capacity,
    )
    overview = Overview(
        usecase,
        observations,
        deployed,
        DriftWatch(
            usecase,
            window=settings.monitor_window,
            least=settings.monitor_window_least,
            alarm_windows=settings.monitor_alarm_windows,
        ),
        RetrainingTrigger(
            enabled=settings.monitor_retrains,
            every=timedelta(minutes=settings.monitor_retrain_every_minutes),
            auc_drop=settings.monitor_auc_drop,
        ),
        CanaryWatch(usecase, store, observations.arms, enabled=settings.monitor_leads_canaries),
        publish=request_training or _publisher(settings),
        pseudonyms=Pseudonyms(settings.pseudonym_key),
        restarts_file=settings.data_dir / "run" / "restarts.json",
        quality_every=timedelta(seconds=settings.monitor_quality_refresh_s),
    )
    watch = Watch(
        (connect or _kafka(settings))(observations.topics),
        observations,
        overview,
        Catalogue(
            usecase,
            observations,
            deployed,
            Published(store, usecase.name),
            every=timedelta(seconds=settings.monitor_catalogue_refresh_s),
        ),
        clock=clock,
        refresh_s=settings.monitor_refresh_s,
    )
    return Monitor(watch, create_app(lambda: watch.state_json, lambda: watch.catalogue_json, watch.ready))


def _kafka(settings: MonitorSettings) -> Connect:
    # What was seen is kept in memory alone, so each start reads the log anew, as a group that never commits.
    group = f"monitor-{settings.usecase}-{uuid.uuid4().hex}"
    return lambda topics: KafkaReader(settings.kafka_bootstrap, topics, group)


def _publisher(settings: MonitorSettings) -> Publish:
    topic = training_requests_topic(settings.usecase).name

    def request(message: TrainingRequested) -> None:
        publish(settings.kafka_bootstrap, topic, settings.usecase.encode(), message.to_bytes())

    return request
