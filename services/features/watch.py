"""Watches the running service: tells the store how far it is, publishes its numbers, notices when a part dies."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial

from flywheel.adapters.kafka_topics import publish
from flywheel.adapters.logs import logger
from flywheel.adapters.spark_checkpoint import Checkpoint, LostTrack
from flywheel.contracts.metrics import FEATURES_EVENTS
from flywheel.contracts.topics import history_topic, training_results_topic
from flywheel.contracts.training import HistoryBuilt, TrainingFinished
from flywheel.kernel.ports import Lane, StoreProgress, Unavailable, total_of
from services.features.bootstrap import REBUILD, STORE, FeaturesService, tiles_checkpoint
from services.features.build import serve_requests
from services.features.positions import counted_only, marks_of
from services.features.stream import JobDied

_EVERY_S = 0.2
LOST = "lost"
"""Whose the store is from the moment that a part of it was found missing until it has been filled again."""

_log = logger(__name__)


def watch(service: FeaturesService, stopping: threading.Event) -> None:
    """Runs the streams until `stopping`. Raises JobDied."""
    service.metrics.start()
    service.start_streams()
    builder = threading.Thread(target=_build, args=(service, stopping), name="history", daemon=True)
    builder.start()
    parity = threading.Thread(target=service.parity.run, args=(stopping,), name="parity", daemon=True)
    parity.start()
    _log.info("features_started", usecase=service.plan.usecase.name)
    counters = _Counters(service)
    while not stopping.wait(_EVERY_S):
        _observe(service, counters)
        if not builder.is_alive() and not stopping.is_set():
            raise JobDied("history: its thread has ended")
    builder.join(timeout=5.0)
    parity.join(timeout=5.0)


def _observe(service: FeaturesService, counters: _Counters) -> None:
    at_us = time.time_ns() // 1000
    try:
        ends = service.offsets.ends()
        service.decisions.observe(at_us)
    except Unavailable as error:
        _log.warning("broker_not_answering", reason=str(error))
        return
    service.tiles.observe(at_us, counted_only(service.plan, ends))
    service.archive.observe(at_us, ends)
    try:
        _publish(service, counters)
    except Unavailable as error:
        _log.warning("online_store_not_answering", reason=str(error))


class _Counters:
    """Publishes how many events the store has counted, as often as the store bears being asked."""

    def __init__(self, service: FeaturesService) -> None:
        self._service = service
        self._again_at_s = 0.0
        self._last: Mapping[str, Mapping[str, int]] = {}

    def publish(self) -> None:
        """Raises Unavailable, and JobDied when the store has counted less than before."""
        if time.monotonic() < self._again_at_s:
            return
        counted = self._service.writer.counters_by_place()
        if any(_has_lost(counted.get(place, {}), before) for place, before in self._last.items()):
            # A node of a cluster that comes back without its data answers as if nothing had ever been there.
            self._service.writer.hand_over(LOST)
            raise JobDied(f"tiles: {STORE} has lost a part of what it held; {REBUILD}")
        self._last = counted
        by_view: Counter[str] = Counter()
        for name, number in total_of(counted).items():
            by_view[name.partition(".")[0]] += number
        for view, number in by_view.items():
            FEATURES_EVENTS.labels(self._service.plan.usecase.name, view).set(number)
        self._again_at_s = time.monotonic() + self._service.writer.counters_pause_s


def _has_lost(counted: Mapping[str, int], before: Mapping[str, int]) -> bool:
    return any(counted.get(name, 0) < number for name, number in before.items())


def _publish(service: FeaturesService, counters: _Counters) -> None:
    visible_until_us = service.tiles.progress.visible_until_us
    if visible_until_us is not None and service.tiles.finished:
        checkpoint = tiles_checkpoint(service.settings, service.plan)
        if not service.writer.absorb(marks_of(service.plan, service.tiles.finished), checkpoint.identity):
            _claim(service, checkpoint)
            return
        service.writer.report(Lane.TILES, StoreProgress(visible_until_us, time.time_ns() // 1000))
    counters.publish()


def _claim(service: FeaturesService, checkpoint: Checkpoint) -> None:
    """Takes a new store; one that was emptied, or is another's, must not be said to be up to date."""
    try:
        checkpoint.claim(service.writer, STORE, REBUILD)
    except LostTrack as error:
        raise JobDied(f"tiles: {error}") from error


def _build(service: FeaturesService, stopping: threading.Event) -> None:
    service.session.sparkContext.setLocalProperty("spark.scheduler.pool", "history")
    try:
        serve_requests(
            service.builder,
            service.requests,
            archived_until_us=lambda: service.archive.progress.visible_until_us,
            publish=partial(_send, service),
            stopping=stopping,
        )
    except Exception:
        if not stopping.is_set():
            _log.exception("history_thread_died")


def _send(service: FeaturesService, message: HistoryBuilt | TrainingFinished) -> None:
    usecase = service.plan.usecase.name
    topic = history_topic(usecase) if isinstance(message, HistoryBuilt) else training_results_topic(usecase)
    publish(service.settings.kafka_bootstrap, topic.name, message.request_id.encode(), message.to_bytes())
