"""Health and reflection as standard clients ask for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from flywheel.adapters.grpc_server.health import HEALTH, Health
from flywheel.adapters.grpc_server.reflection import REFLECTIONS, reflection
from flywheel.adapters.grpc_server.server import GrpcServer

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@asynccontextmanager
async def serving(health: Health) -> AsyncIterator[str]:
    server = GrpcServer(health.unary(), {**health.streaming(), **reflection([HEALTH])})
    port = await server.listen("127.0.0.1:0")
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.drain(0.5)


def asked(service: str = "") -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


async def test_health_tells_of_each_service_and_of_all() -> None:
    health = Health(["a.B"])
    async with serving(health) as address, grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert (await stub.Check(asked())).status == NOT_SERVING
        health.set(is_serving=True)
        assert (await stub.Check(asked("a.B"))).status == SERVING
        health.set(is_serving=False, service="a.B")
        listed = await stub.List(health_pb2.HealthListRequest())
        assert {name: found.status for name, found in listed.statuses.items()} == {"": SERVING, "a.B": NOT_SERVING}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(asked("nobody"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_who_watches_hears_of_each_change_once() -> None:
    health = Health(["a.B"])
    async with serving(health) as address, grpc.aio.insecure_channel(address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(asked("a.B"))
        unknown = health_pb2_grpc.HealthStub(channel).Watch(asked("nobody"))
        async with asyncio.timeout(5):
            assert (await watch.read()).status == NOT_SERVING
            assert (await unknown.read()).status == UNKNOWN
            health.set(is_serving=True)
            assert (await watch.read()).status == SERVING
            health.set(is_serving=True)
            await health_pb2_grpc.HealthStub(channel).Check(asked())
            health.set(is_serving=False)
            assert (await watch.read()).status == NOT_SERVING
        watch.cancel()
        unknown.cancel()


async def test_reflection_describes_services_to_a_tool_that_knows_nothing() -> None:
    async with serving(Health([])) as address:

        def explore() -> tuple[set[str], list[str]]:
            with grpc.insecure_channel(address) as channel:
                database = ProtoReflectionDescriptorDatabase(channel)
                file = database.FindFileContainingSymbol(HEALTH)
                return set(database.get_services()), [method.name for method in file.service[0].method]

        services, methods = await asyncio.to_thread(explore)
        assert services == {HEALTH, *REFLECTIONS}
        assert {"Check", "Watch"} <= set(methods)


@pytest.mark.parametrize("service", REFLECTIONS)
async def test_both_versions_of_reflection_answer(service: str) -> None:
    async with serving(Health([])) as address, grpc.aio.insecure_channel(address) as channel:
        ask = channel.stream_stream(
            f"/{service}/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        wanted = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.Thing"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"{HEALTH}.Check"),
        ]
        listed, missing, method = [answer async for answer in ask(iter(wanted))]
        assert len(method.file_descriptor_response.file_descriptor_proto) == 1
        assert HEALTH in {found.name for found in listed.list_services_response.service}
        assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
