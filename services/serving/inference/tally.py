"""What is counted of requests for a model's scores."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from flywheel.adapters.logs import logger
from flywheel.contracts.metrics import SERVING_INFERENCE_ROWS, SERVING_INFERENCE_SECONDS, SERVING_INFERENCES
from flywheel.kernel.timing import OutOfTime
from services.serving.inference.messages import ModelFailed, ModelNotReady, UnknownModel
from services.serving.inference.tensors import InvalidInference

_OUTCOMES: Mapping[type[BaseException], str] = {
    InvalidInference: "invalid",
    UnknownModel: "unknown_model",
    ModelNotReady: "not_ready",
    ModelFailed: "model_failed",
    OutOfTime: "out_of_time",
    asyncio.CancelledError: "cancelled",
}

_log = logger(__name__)


class InferenceTally:
    """Counts for the models of one use case."""

    def __init__(self, usecase: str) -> None:
        self._usecase = usecase
        self._seconds = SERVING_INFERENCE_SECONDS.labels(usecase)
        self._rows = SERVING_INFERENCE_ROWS.labels(usecase)

    @contextmanager
    def counted(self, face: str) -> Iterator[None]:
        """One request by that face of the protocol; what ends the block is its outcome."""
        started_s = time.perf_counter()
        outcome = "answered"
        try:
            yield
        except BaseException as error:
            outcome = _outcome(error)
            if isinstance(error, ModelFailed):
                _log.error("inference_failed", usecase=self._usecase, reason=str(error))
            raise
        finally:
            self._seconds.observe(time.perf_counter() - started_s)
            SERVING_INFERENCES.labels(self._usecase, face, outcome).inc()

    def scored(self, rows: int) -> None:
        """That many rows got their scores."""
        self._rows.inc(rows)


def _outcome(error: BaseException) -> str:
    # A face raises its own error from ours.
    for each in (error, error.__cause__):
        if each is not None and type(each) in _OUTCOMES:
            return _OUTCOMES[type(each)]
    return "failed"
