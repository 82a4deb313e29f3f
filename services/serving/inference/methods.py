"""The Open Inference Protocol over gRPC: its methods on the serving port, and how each ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from flywheel.adapters.grpc_server.calls import Call, Unary, awaited
from flywheel.adapters.grpc_server.status import CallFailed
from flywheel.contracts.proto.inference_pb2 import (
    ModelInferRequest,
    ModelMetadataRequest,
    ModelReadyRequest,
    ModelReadyResponse,
    RepositoryIndexRequest,
    ServerLiveResponse,
    ServerMetadataResponse,
    ServerReadyResponse,
)
from services.serving.inference.messages import (
    SERVER_NAME,
    SERVER_VERSION,
    InferenceRequest,
    UnknownModel,
)
from services.serving.inference.plane import Inference
from services.serving.inference.proto_messages import read_request, write_answer, write_description, write_index
from services.serving.inference.refusals import ENDINGS
from services.serving.inference.tensors import InvalidInference

SERVICE = "inference.GRPCInferenceService"
INFER = f"/{SERVICE}/ModelInfer"

Request = TypeVar("Request", bound=Message)


def inference_methods(inference: Inference) -> dict[str, Unary]:
    """The methods of the service, by their paths."""
    methods = _Methods(inference)
    answered: Mapping[str, Callable[[Call], Awaitable[Message]]] = {
        "ServerLive": methods.server_live,
        "ServerReady": methods.server_ready,
        "ServerMetadata": methods.server_metadata,
        "ModelReady": methods.model_ready,
        "ModelMetadata": methods.model_metadata,
        "ModelInfer": methods.model_infer,
        "RepositoryIndex": methods.repository_index,
    }
    return {f"/{SERVICE}/{name}": awaited(_ending(method)) for name, method in answered.items()}


class _Methods:
    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    async def server_live(self, _: Call) -> ServerLiveResponse:
        return ServerLiveResponse(live=True)

    async def server_ready(self, _: Call) -> ServerReadyResponse:
        return ServerReadyResponse(ready=self._inference.ready())

    async def server_metadata(self, _: Call) -> ServerMetadataResponse:
        return ServerMetadataResponse(name=SERVER_NAME, version=SERVER_VERSION)

    async def model_ready(self, call: Call) -> ModelReadyResponse:
        request = _parsed(ModelReadyRequest, call)
        return ModelReadyResponse(ready=self._inference.model_ready(request.name, request.version))

    async def model_metadata(self, call: Call) -> Message:
        request = _parsed(ModelMetadataRequest, call)
        return write_description(self._inference.describe(request.name, request.version))

    async def model_infer(self, call: Call) -> Message:
        with self._inference.counted("grpc"):
            request, raw = await self._inference.read(len(call.message), partial(self._read, call))
            return write_answer(await self._inference.infer(request, call.deadline_s), raw=raw)

    def _read(self, call: Call) -> tuple[InferenceRequest, bool]:
        message = _parsed(ModelInferRequest, call)
        max_elements = self._inference.max_elements(message.model_name, message.model_version)
        return read_request(message, max_elements), bool(message.raw_input_contents)

    async def repository_index(self, call: Call) -> Message:
        request = _parsed(RepositoryIndexRequest, call)
        if request.repository_name:
            raise UnknownModel(f"there is no repository {request.repository_name[:64]!r}; the one there is has no name")
        return write_index(await self._inference.index(ready_only=request.ready))


@contextmanager
def failing_calls() -> Iterator[None]:
    """Whatever the data plane refuses in the block fails the call: CallFailed, caused by the refusal."""
    try:
        yield
    except tuple(ENDINGS) as error:
        raise CallFailed(ENDINGS[type(error)].status, str(error)) from error


def _ending(method: Callable[[Call], Awaitable[Message]]) -> Callable[[Call], Awaitable[bytes]]:
    async def answer(call: Call) -> bytes:
        with failing_calls():
            return (await method(call)).SerializeToString()

    return answer


def _parsed(kind: type[Request], call: Call) -> Request:
    try:
        message = kind()
        message.ParseFromString(call.message)
    except DecodeError as error:
        raise InvalidInference("message", f"it is no {kind.__name__}", "send what the .proto file says") from error
    return message
