"""Builds feature history when a training is requested, once the lake holds all that was accepted before."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from flywheel.adapters.lake_lock import writing
from flywheel.adapters.logs import logger
from flywheel.adapters.spark_archive import Lake
from flywheel.adapters.spark_events import read_archive
from flywheel.adapters.spark_history import build_history
from flywheel.contracts.events import Event, from_us, to_us
from flywheel.contracts.parity import ParityReport
from flywheel.contracts.training import HistoryBuilt, TrainingFinished, TrainingRequested
from flywheel.kernel.erasure import Erasures, named_in
from flywheel.kernel.plan import FeaturePlan, TileView
from flywheel.kernel.ports import ErasureLog, Record, RecordReader, Unavailable

_POLL_S = 0.5

_log = logger(__name__)


class HistoryBuilder:
    """Writes snapshots below `directory`, one folder for each view, and keeps the newest `kept` of them."""

    def __init__(
        self,
        plan: FeaturePlan,
        session: SparkSession,
        lake: Lake,
        directory: Path,
        erasures: ErasureLog,
        *,
        kept: int,
        parity: Callable[[], ParityReport | None] = lambda: None,
    ) -> None:
        self._plan = plan
        self._session = session
        self._lake = lake
        self._directory = directory.absolute() / plan.usecase.name
        self._erasures = erasures
        self._kept = kept
        self._parity = parity

    def build(self, request: TrainingRequested) -> HistoryBuilt:
        """A new snapshot of everything in the lake that had arrived when it was asked for.

        Raises ValueError while that is no request event.
        """
        if not self._lake.holds(self._plan.usecase.request):
            raise ValueError(f"no {self._plan.usecase.request.event_name} is archived yet")
        # Nobody is erased while a snapshot is written: its rows would outlive them.
        with writing(self._lake.directory):
            return self._build(request, self._erasures.current())

    def _build(self, request: TrainingRequested, erasures: Erasures) -> HistoryBuilt:
        snapshot_id = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        # What is loaded from now on may be backfilled: it would be known to requests whose rows are written already.
        arrived = F.unix_micros("ingest_time") <= to_us(request.requested_at)
        events = {
            event.event_name: self._read(event, erasures).where(arrived).persist()
            for event in self._plan.events
            if self._lake.holds(event)
        }
        try:
            until, rows = _extent(events[self._plan.usecase.request.event_name])
            for number, view in enumerate(self._plan.views, 1):
                self._write(view, events, snapshot_id)
                _log.info("history_view_written", view=view.name, progress=f"{number} of {len(self._plan.views)}")
        finally:
            for frame in events.values():
                frame.unpersist()
        self._forget_old()
        return HistoryBuilt(
            request_id=request.request_id,
            snapshot_id=snapshot_id,
            path=str(self._directory),
            event_time_until=until,
            arrived_until=request.requested_at,
            as_known=True,
            rows=rows,
            reason=request.reason,
            parity=self._parity(),
        )

    def _read(self, event: type[Event], erasures: Erasures) -> DataFrame:
        named = named_in(self._plan.usecase, event)
        return read_archive(self._session, str(self._lake.path(event)), event, erasures, named)

    def _write(self, view: TileView, events: dict[str, DataFrame], snapshot_id: str) -> None:
        history = build_history(self._plan, view, events).withColumn("created_timestamp", F.current_timestamp())
        history.write.parquet(str(self._directory / view.history_name / f"snapshot={snapshot_id}"))

    def _forget_old(self) -> None:
        for view in self._plan.views:
            snapshots = sorted((self._directory / view.history_name).glob("snapshot=*"))
            for old in snapshots[: -self._kept]:
                shutil.rmtree(old)


def _extent(requests: DataFrame) -> tuple[datetime, int]:
    row = requests.agg(F.max(F.unix_micros("event_time")).alias("until_us"), F.count(F.lit(1)).alias("rows")).first()
    assert row is not None  # an aggregate over everything has one row
    if not row["rows"]:
        raise ValueError("no request had arrived when the history was asked for")
    return from_us(row["until_us"]), row["rows"]


def serve_requests(
    builder: HistoryBuilder,
    requests: RecordReader,
    *,
    archived_until_us: Callable[[], int | None],
    publish: Callable[[HistoryBuilt | TrainingFinished], None],
    stopping: threading.Event,
) -> None:
    """Answers training requests, oldest first, until `stopping`; one that fails is answered with its reason.

    What is no request is passed over. While the broker is away an answer waits for it.
    """
    while not stopping.is_set():
        for record in requests.poll(_POLL_S, 1):
            request = _request(record)
            if request is not None:
                if not _await_archive(request, archived_until_us, stopping):
                    return
                if not _publish(_answer(builder, request), publish, stopping):
                    return
            try:
                requests.commit()
            except Unavailable as error:
                # Read again it is answered again, which the trainer recognizes by the request's id.
                _log.warning("request_not_committed", offset=record.offset, reason=str(error))


def _request(record: Record) -> TrainingRequested | None:
    try:
        return TrainingRequested.model_validate_json(record.value)
    except ValidationError as error:
        _log.error("no_training_request", topic=record.topic, offset=record.offset, errors=error.error_count())
        return None


def _publish(
    answer: HistoryBuilt | TrainingFinished,
    publish: Callable[[HistoryBuilt | TrainingFinished], None],
    stopping: threading.Event,
) -> bool:
    while True:
        try:
            publish(answer)
        except Unavailable as error:
            _log.warning("answer_not_published", request_id=answer.request_id, reason=str(error))
            if stopping.wait(_POLL_S):
                return False
        else:
            return True


def _await_archive(
    request: TrainingRequested, archived_until_us: Callable[[], int | None], stopping: threading.Event
) -> bool:
    if (archived_until_us() or 0) < to_us(request.requested_at):
        _log.info("archive_awaited", request_id=request.request_id)
    while (archived_until_us() or 0) < to_us(request.requested_at):
        if stopping.wait(_POLL_S):
            return False
    return True


def _answer(builder: HistoryBuilder, request: TrainingRequested) -> HistoryBuilt | TrainingFinished:
    _log.info("history_requested", request_id=request.request_id, reason=request.reason)
    try:
        built = builder.build(request)
    except Exception as error:
        # Tried again it would fail again and hold up those behind it; whoever asked is told instead.
        _log.exception("history_failed", request_id=request.request_id)
        return TrainingFinished(
            request_id=request.request_id,
            finished_at=datetime.now(UTC),
            version=None,
            deployed=False,
            error=f"feature history could not be built: {error}",
        )
    _log.info("history_built", request_id=request.request_id, snapshot_id=built.snapshot_id, rows=built.rows)
    return built
