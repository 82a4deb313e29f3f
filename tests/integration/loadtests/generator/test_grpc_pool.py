"""The load generator's own gRPC client on grpcio's server: the same results as grpcio's client, and none hidden."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest

from benchmarks.figures import ROOT
from loadtests.generator.arrivals import constant
from loadtests.generator.grpc_pool import GrpcPool
from loadtests.generator.load import closed_loop, open_loop
from loadtests.generator.outcomes import Outcome
from tests.engines import free_port

_METHOD = "/test.Test/Ask"


async def _answer(message: bytes, context: Any) -> bytes:
    if message.startswith(b"refuse"):
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much \u00e4: " + "x" * 20)
    if message.startswith(b"fail"):
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, message.decode())
    return message * 3


@pytest.fixture
async def server() -> AsyncIterator[tuple[grpc.aio.Server, str]]:
    made = grpc.aio.server()
    handlers = {"Ask": grpc.unary_unary_rpc_method_handler(_answer)}
    made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
    address = f"127.0.0.1:{made.add_insecure_port('127.0.0.1:0')}"
    await made.start()
    yield made, address
    await made.stop(None)


async def test_it_gets_what_grpcios_client_gets(server: tuple[grpc.aio.Server, str]) -> None:
    _, address = server
    messages = [b"one", b"refuse 1", b"two" * 20_000, b"fail 2", b"", b"fail 3"]
    expected: list[bytes | grpc.StatusCode] = []
    async with grpc.aio.insecure_channel(address) as channel:
        ask = channel.unary_unary(_METHOD)
        for message in messages:
            try:
                expected.append(await ask(message))
            except grpc.aio.AioRpcError as error:
                expected.append(error.code())
    for message, wanted in zip(messages, expected, strict=True):
        pool = GrpcPool(address, _METHOD, [message], connections=2, timeout_s=5)
        await pool.open()
        # More than a window of both connections, so that requests have to wait for it.
        run = await open_loop(pool, constant(1_000, 0.05), seconds=0.05, patience_s=10)
        await pool.close()
        if isinstance(wanted, bytes):
            assert run.count(Outcome.GOOD) == 50
            assert pool.last_answer == wanted
        else:
            refused = wanted is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert run.count(Outcome.REFUSED if refused else Outcome.FAILED) == 50
            assert pool.statuses == {wanted.value[0]: 50}


async def test_an_answer_that_is_a_makeshift_is_not_good(server: tuple[grpc.aio.Server, str]) -> None:
    pool = GrpcPool(server[1], _METHOD, [b"a", b"b"], judge=lambda answer: answer == b"aaa")
    await pool.open()
    run = await closed_loop(pool, callers=4, seconds=0.1)
    await pool.close()
    assert run.count(Outcome.GOOD) > 0
    assert run.count(Outcome.DEGRADED) > 0
    assert abs(run.count(Outcome.GOOD) - run.count(Outcome.DEGRADED)) <= 4


@pytest.fixture
def echo() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    program = ROOT / "benchmarks" / "serving_peers" / "echo.py"
    with subprocess.Popen([sys.executable, str(program), str(port)]) as process:
        try:
            yield process, f"127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


async def test_a_stopped_server_shows_in_the_latency(echo: tuple[subprocess.Popen[bytes], str]) -> None:
    process, address = echo
    pool = GrpcPool(address, "/floor.Floor/Ask", [b"x" * 100], connections=2)
    async with grpc.aio.insecure_channel(address) as channel:
        await asyncio.wait_for(channel.channel_ready(), 20)
    await pool.open()
    running = asyncio.create_task(open_loop(pool, constant(500, 1.0), seconds=1.0))
    await asyncio.sleep(0.3)
    process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.5)
    process.send_signal(signal.SIGCONT)
    run = await running
    await pool.close()
    assert run.count(Outcome.GOOD) == 500
    # 250 requests came while it stood still; the first of them waited for half a second.
    assert run.latency_ms(Outcome.GOOD).max() > 400
    assert (run.latency_ms(Outcome.GOOD) > 100).sum() > 150
