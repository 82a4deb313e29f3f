"""The models themselves, on rows that the caller brings: no features are read, no policy chooses, nothing is logged
as a decision. Knows no protocol; two faces speak it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.declaration import UseCase
from flywheel.kernel.timing import OutOfTime
from services.serving.inference.messages import (
    IndexEntry,
    InferenceAnswer,
    InferenceRequest,
    ModelDescription,
    ModelFailed,
    Parameter,
    TensorDescription,
)
from services.serving.inference.repository import Repository, Runnable
from services.serving.inference.tally import InferenceTally
from services.serving.inference.tensors import InvalidInference, Tensor

SCORE = "score"

# As many rows take as long as a decision or two; more are run beside the event loop, which goes on deciding.
_INLINE_ROWS = 32
_INLINE_BYTES = 16 * 1024

Read = TypeVar("Read")


class Inference:
    """Runs what a repository holds. `close` when done."""

    def __init__(
        self,
        usecase: UseCase,
        repository: Repository,
        *,
        max_rows: int,
        steady_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._fingerprint = usecase.fingerprint
        self._repository = repository
        self._max_rows = max_rows
        self._steady_s = steady_s
        self._tally = InferenceTally(usecase.name)
        # One thread: as many runs at once as processors that a process has.
        self._beside = ThreadPoolExecutor(1, "inference")

    def counted(self, face: str) -> AbstractContextManager[None]:
        """Counts what comes of one request, from here to the end of the block."""
        return self._tally.counted(face)

    def ready(self) -> bool:
        """Whether the champion is loaded."""
        return self._repository.ready

    def model_ready(self, name: str, version: str = "") -> bool:
        """Whether that version is loaded. Raises UnknownModel for a name that there is not."""
        return self._repository.find(name, version) is not None

    def describe(self, name: str, version: str = "") -> ModelDescription:
        """What the model takes and gives. Raises UnknownModel and ModelNotReady.

        The inputs of what decides are the features one by one; all of them in one tensor are taken as well.
        """
        inputs = self._repository.get(name, version).inputs()
        outputs = (TensorDescription(SCORE, "FP64", (-1,)),)
        return ModelDescription(name, self._repository.versions(name), inputs, outputs)

    async def index(self, *, ready_only: bool = False) -> list[IndexEntry]:
        """What is loaded and, unless `ready_only`, whatever else is published."""
        loaded = self._repository.loaded()
        return [*loaded] if ready_only else [*loaded, *await asyncio.to_thread(self._repository.unloaded)]

    def max_elements(self, name: str, version: str = "") -> int | None:
        """How many numbers a request may bring to the model. Raises UnknownModel and ModelNotReady."""
        return self._repository.get(name, version).max_elements(self._max_rows)

    async def read(self, size: int, read: Callable[[], Read]) -> Read:
        """What `read` makes of a request of so many bytes, beside the event loop if they are many."""
        if size <= _INLINE_BYTES:
            return read()
        return await asyncio.get_running_loop().run_in_executor(self._beside, read)

    async def infer(self, request: InferenceRequest, deadline_s: float = math.inf) -> InferenceAnswer:
        """Scores of all rows, in their order, by `deadline_s` of the steady clock.

        Raises InvalidInference, UnknownModel, ModelNotReady, ModelFailed and OutOfTime.
        """
        model = self._repository.get(request.model, request.version)
        deadline_s = min(deadline_s, self._steady_s() + self._patience_s(request.parameters))
        _check_outputs(request.outputs)
        scores = await self._scores(model, model.rows(request.inputs, self._max_rows), deadline_s)
        self._tally.scored(len(scores))
        return InferenceAnswer(
            request.model,
            model.version,
            request.id,
            (Tensor(SCORE, scores),),
            {"feature_fingerprint": self._fingerprint},
        )

    def close(self) -> None:
        """What has not begun is not begun any more, and what has is not waited for."""
        self._beside.shutdown(wait=False, cancel_futures=True)

    async def _scores(self, model: Runnable, rows: NDArray[np.float32], deadline_s: float) -> NDArray[np.float64]:
        left_s = deadline_s - self._steady_s()
        if left_s <= 0:
            raise OutOfTime("the time was over before the model could run")
        if len(rows) <= _INLINE_ROWS:
            return _run(model, rows)
        running = asyncio.get_running_loop().run_in_executor(self._beside, _run, model, rows)
        try:
            return await asyncio.wait_for(running, None if left_s == math.inf else left_s)
        except TimeoutError as error:
            raise OutOfTime(f"{len(rows)} rows were not scored in time") from error

    def _patience_s(self, parameters: Mapping[str, Parameter]) -> float:
        """What the parameters give it; any that is not understood is refused, as it might change the answer."""
        for name, value in parameters.items():
            if name == "feature_fingerprint":
                if value != self._fingerprint:
                    hint = "send rows of those, or leave the parameter out"
                    raise InvalidInference(name, f"the models read features {self._fingerprint}", hint)
            elif name != "timeout":
                hint = "leave it out; feature_fingerprint and timeout are understood"
                raise InvalidInference("parameters", f"{name[:64]!r} is not served", hint)
            elif type(value) is not int or value <= 0:
                raise InvalidInference(name, "it is no time", "send whole microseconds, more than 0")
        timeout_us = parameters.get("timeout")
        return math.inf if timeout_us is None else float(timeout_us) / 1e6


def _run(model: Runnable, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    try:
        scores = model.scorer.score(rows)
    except Exception as error:
        # Engines raise errors of their own kinds.
        raise ModelFailed(f"{model.version} did not score the rows: {type(error).__name__}: {error}") from error
    if scores.shape != (len(rows),):
        raise ModelFailed(f"{model.version} gave scores of the shape {scores.shape} for {len(rows)} rows")
    return np.ascontiguousarray(scores, np.float64)


def _check_outputs(outputs: Sequence[str]) -> None:
    if unknown := [name for name in outputs if name != SCORE]:
        raise InvalidInference("outputs", f"the model gives no {unknown[0][:64]!r}", f"ask for {SCORE}, or for nothing")
    if len(outputs) > 1:
        raise InvalidInference("outputs", f"{SCORE} comes twice", "ask for each output once")
