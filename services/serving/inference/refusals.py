"""How requests of the Open Inference Protocol end that cannot be served: in a status of gRPC, in a problem of HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flywheel.adapters.grpc_server.status import Status
from flywheel.kernel.timing import OutOfTime
from services.serving.inference.messages import ModelFailed, ModelNotReady, UnknownModel
from services.serving.inference.tensors import InvalidInference


@dataclass(frozen=True)
class Ending:
    """`kind` and `title` are those of the problem (RFC 9457)."""

    status: Status
    http_status: int
    kind: str
    title: str


ENDINGS: Mapping[type[Exception], Ending] = {
    InvalidInference: Ending(
        Status.INVALID_ARGUMENT, 400, "invalid-inference", "The request cannot be served as it is"
    ),
    UnknownModel: Ending(Status.NOT_FOUND, 404, "unknown-model", "There is no such model"),
    ModelNotReady: Ending(Status.UNAVAILABLE, 503, "model-not-ready", "The model is not loaded"),
    ModelFailed: Ending(Status.INTERNAL, 500, "model-failed", "The model gave no scores"),
    OutOfTime: Ending(Status.DEADLINE_EXCEEDED, 504, "out-of-time", "There was no time for an answer"),
}
