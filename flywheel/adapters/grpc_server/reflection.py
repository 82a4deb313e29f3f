"""gRPC's server reflection: what services there are and what their messages look like, for tools that ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress

from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha.reflection import aio
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from flywheel.adapters.grpc_server.calls import StreamCall, Streaming
from flywheel.adapters.grpc_server.status import CallFailed, Status

# Both versions have the same messages but for the name of their package, which is never sent.
REFLECTIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


def reflection(services: Iterable[str]) -> Mapping[str, Streaming]:
    """The reflection service, in both its versions, over these services and itself, by path."""
    servicer = aio.ReflectionServicer([*services, *REFLECTIONS])

    async def answers(messages: AsyncIterator[bytes], _: StreamCall) -> AsyncIterator[bytes]:
        async for answer in servicer.ServerReflectionInfo(_requests(messages), None):
            yield answer.SerializeToString()

    return {f"/{name}/ServerReflectionInfo": answers for name in REFLECTIONS}


async def _requests(messages: AsyncIterator[bytes]) -> AsyncIterator[ServerReflectionRequest]:
    async for message in messages:
        try:
            request = ServerReflectionRequest.FromString(message)
        except DecodeError as error:
            raise CallFailed(Status.INTERNAL, "the request is no ServerReflectionRequest") from error
        if request.HasField("file_containing_symbol"):
            request.file_containing_symbol = _found(request.file_containing_symbol)
        yield request


def _found(symbol: str) -> str:
    """The symbol or, as some clients ask for methods, which the pool does not find, what it belongs to."""
    for name in (symbol, symbol.rpartition(".")[0]):
        with suppress(KeyError):
            descriptor_pool.Default().FindFileContainingSymbol(name)
            return name
    return symbol
