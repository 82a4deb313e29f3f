"""Answers every history with one training run, one after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from pydantic import ValidationError

from flywheel.adapters.logs import logger
from flywheel.contracts.metrics import TRAINER_ROWS, TRAINER_RUNS, TRAINER_SECONDS
from flywheel.contracts.training import HistoryBuilt, TrainingFinished
from flywheel.kernel.ports import Record, RecordReader, Unavailable
from services.trainer.isolation import Interrupted, WorkFailed
from services.trainer.outcome import Outcome

_POLL_S = 0.5
_RETRY_S = 2.0
_CHECK_EVERY_S = 5.0

Train = Callable[[HistoryBuilt], Outcome]
Announce = Callable[[TrainingFinished], None]

_log = logger(__name__)


class Reception:
    """Reads histories, has models trained on them and announces how that ended.

    A history is done with once its result is announced: killed before, the trainer meets it again. A run that fails
    is announced too and never stops the service.
    """

    def __init__(
        self, usecase: str, reader: RecordReader, train: Train, announce: Announce, stop: threading.Event
    ) -> None:
        self._usecase = usecase
        self._reader = reader
        self._train = train
        self._announce = announce
        self._stop = stop
        self._state = (False, "not connected yet")
        self._checked_at = -_CHECK_EVERY_S

    def ready(self) -> tuple[bool, str]:
        """Whether histories can be received, and what the trainer is doing."""
        return self._state

    def run(self) -> None:
        """Until told to stop."""
        while not self._stop.is_set():
            self._check()
            try:
                records = self._reader.poll(_POLL_S, 1)
            except Unavailable as error:
                self._state = (False, f"the broker does not answer: {error}")
                self._stop.wait(_RETRY_S)
                continue
            for record in records:
                self._receive(record)

    def _check(self) -> None:
        if time.monotonic() - self._checked_at < _CHECK_EVERY_S:
            return
        try:
            waiting = self._reader.lag()
            self._state = (True, f"waiting for history, {waiting} in the queue")
        except Unavailable as error:
            self._state = (False, f"the broker does not answer: {error}")
        self._checked_at = time.monotonic()

    def _receive(self, record: Record) -> None:
        try:
            history = HistoryBuilt.model_validate_json(record.value)
        except ValidationError as error:
            _log.error("history_message_skipped", offset=record.offset, reason=str(error))
        else:
            self._state = (True, f"training for request {history.request_id}")
            try:
                self._persist(self._answer(history))
            except Interrupted:
                return
        self._commit()

    def _answer(self, history: HistoryBuilt) -> TrainingFinished:
        started = time.monotonic()
        _log.info("training_started", request_id=history.request_id, snapshot_id=history.snapshot_id)
        try:
            outcome = self._train(history)
        except WorkFailed as failure:
            _log.error("training_failed", request_id=history.request_id, reason=str(failure))
            outcome = Outcome(_failed(history, str(failure)), rows=0)
        finished = outcome.finished
        verdict = "failed" if finished.error else "deployed" if finished.deployed else "rejected"
        TRAINER_RUNS.labels(self._usecase, verdict).inc()
        TRAINER_SECONDS.labels(self._usecase).set(time.monotonic() - started)
        TRAINER_ROWS.labels(self._usecase).set(outcome.rows)
        _log.info("training_answered", request_id=finished.request_id, verdict=verdict, version=finished.version)
        return finished

    def _persist(self, finished: TrainingFinished) -> None:
        """Announces, again and again while the broker is away."""
        while True:
            try:
                return self._announce(finished)
            except Unavailable as error:
                self._state = (False, f"the result is not announced yet: {error}")
                _log.warning("result_not_announced", request_id=finished.request_id, reason=str(error))
                if self._stop.wait(_RETRY_S):
                    raise Interrupted from error

    def _commit(self) -> None:
        try:
            self._reader.commit()
        except Unavailable as error:
            # The history will come again: a deployed request is recognised, a rejected one is tried once more.
            _log.warning("history_not_committed", reason=str(error))


def _failed(history: HistoryBuilt, error: str) -> TrainingFinished:
    return TrainingFinished(
        request_id=history.request_id, finished_at=datetime.now(UTC), version=None, deployed=False, error=error
    )
