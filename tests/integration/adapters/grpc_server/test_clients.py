"""The port as grpcio's own clients see it."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from flywheel.adapters.grpc_server.calls import Call, StreamCall, awaited
from flywheel.adapters.grpc_server.frames import PREFACE, ErrorCode, Setting, goaway, settings, window_update
from flywheel.adapters.grpc_server.gates import OpenGate
from flywheel.adapters.grpc_server.limits import Limits
from flywheel.adapters.grpc_server.server import GrpcServer
from flywheel.adapters.grpc_server.status import CallFailed, Refusal, Status
from tests.grpc_wire import GREETING, Wire

MIB = 1024 * 1024
BUSY = Refusal(Status.RESOURCE_EXHAUSTED, "too busy: 100 % – später", {"grpc-retry-pushback-ms": "50"})
CALLS = 4_000
"""With 16 kB each more than the buffers of sockets take, whose sizes grow by themselves."""


class Counting(OpenGate):
    """A gate that writes down what it hears, and refuses who says so."""

    def __init__(self) -> None:
        self.asked = 0
        self.ended_as: list[Status] = []

    def look(self, path: str, metadata: Any, timeout_s: float) -> Refusal | None:
        assert timeout_s > 0
        assert path.startswith("/test.Echo/")
        return BUSY if "refuse-me" in metadata else None

    def begin(self, path: str, metadata: Any, timeout_s: float) -> Refusal | None:  # noqa: ARG002
        assert path.startswith("/test.Echo/")
        self.asked += 1
        return None

    def ended(self, path: str, metadata: Any, seconds: float, outcome: Status) -> None:
        assert "user-agent" in metadata
        assert path.startswith("/test.Echo/")
        assert seconds >= 0
        self.ended_as.append(outcome)


class Echo:
    """Methods that answer in all the ways there are."""

    def __init__(self) -> None:
        self.cohorts: list[int] = []
        self.cancelled = asyncio.Event()
        self.started = asyncio.Event()
        self.metadata: dict[str, str] = {}

    def now(self, calls: Sequence[Call]) -> None:
        self.cohorts.append(len(calls))
        for call in calls:
            self.metadata = dict(call.metadata)
            call.reply(call.message)

    def any_order(self, calls: Sequence[Call]) -> None:
        loop = asyncio.get_running_loop()
        for call in calls:
            loop.call_later(random.random() / 50, call.reply, call.message)

    async def slowly(self, call: Call) -> bytes:
        self.started.set()
        try:
            await asyncio.sleep(0.3)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return call.message

    async def failing(self, call: Call) -> bytes:
        if call.message == b"foreseen":
            raise CallFailed(Status.NOT_FOUND, "nothing\nthere: 100 %", {"hint": "elsewhere"})
        raise ValueError("nobody foresaw it")

    def breaking(self, _: Sequence[Call]) -> None:
        raise ValueError("nobody foresaw it")

    async def talk(self, messages: AsyncIterator[bytes], _: StreamCall) -> AsyncIterator[bytes]:
        try:
            async for message in messages:
                if message == b"fail":
                    raise CallFailed(Status.ABORTED, "asked to")
                yield message * 2
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise


class Served:
    """A server, its parts and a channel to it."""

    def __init__(self, server: GrpcServer, echo: Echo, gate: Counting, channel: grpc.aio.Channel, port: int) -> None:
        self.server, self.echo, self.gate, self.channel, self.port = server, echo, gate, channel, port

    def call(self, method: str) -> Any:
        return self.channel.unary_unary(f"/test.Echo/{method}")

    async def settled(self) -> None:
        """Every admitted call has ended, once."""
        async with asyncio.timeout(5):
            while len(self.gate.ended_as) < self.gate.asked:
                await asyncio.sleep(0.01)
        assert len(self.gate.ended_as) == self.gate.asked


@asynccontextmanager
async def serving(limits: Limits | None = None) -> AsyncIterator[Served]:
    echo, gate = Echo(), Counting()
    unary = {
        "/test.Echo/Now": echo.now,
        "/test.Echo/AnyOrder": echo.any_order,
        "/test.Echo/Slowly": awaited(echo.slowly),
        "/test.Echo/Failing": awaited(echo.failing),
        "/test.Echo/Breaking": echo.breaking,
    }
    server = GrpcServer(unary, {"/test.Echo/Talk": echo.talk}, gate=gate, limits=limits)
    port = await server.listen("127.0.0.1:0")
    options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            yield Served(server, echo, gate, channel, port)
    finally:
        await server.drain(1.0)


async def failure(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), str(caught.value.details())


async def test_an_answer_belongs_to_its_request_whatever_the_order() -> None:
    async with serving() as served:
        messages = [f"{n}-".encode() * (n % 50) for n in range(2_000)]
        for method in ("Now", "AnyOrder"):
            assert await asyncio.gather(*map(served.call(method), messages)) == messages
        await served.settled()
        assert set(served.gate.ended_as) == {Status.OK}


async def test_calls_of_many_connections_that_arrive_together_are_handed_over_together() -> None:
    async with serving() as served:

        def ask(barrier: threading.Barrier) -> bytes:
            options = (("grpc.use_local_subchannel_pool", 1),)
            with grpc.insecure_channel(f"127.0.0.1:{served.port}", options=options) as channel:
                grpc.channel_ready_future(channel).result(5)
                barrier.wait(5)
                return bytes(channel.unary_unary("/test.Echo/Now")(b"x", timeout=5))

        barrier, loop = threading.Barrier(9), asyncio.get_running_loop()
        with ThreadPoolExecutor(9) as threads:
            asked = [loop.run_in_executor(threads, ask, barrier) for _ in range(8)]
            await loop.run_in_executor(threads, barrier.wait, 5)
            # While the loop is held up, all of them arrive.
            threading.Event().wait(0.3)
            assert await asyncio.gather(*asked) == [b"x"] * 8
        assert max(served.echo.cohorts) > 1


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 65_535, 65_536, 3 * MIB])
async def test_messages_of_any_size_go_both_ways(size: int) -> None:
    async with serving() as served:
        message = random.Random(size).randbytes(size)
        assert await served.call("Now")(message, timeout=10) == message
        assert await served.call("Now")(message, timeout=10, compression=grpc.Compression.Gzip) == message


async def test_large_answers_wait_for_the_windows_of_a_client_side_by_side() -> None:
    async with serving() as served:
        messages = [bytes([n]) * MIB for n in range(20)]
        assert await asyncio.gather(*map(served.call("Now"), messages)) == messages


async def test_too_long_a_message_is_refused_plain_and_compressed() -> None:
    async with serving(Limits(message_bytes=1_000)) as served:
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            code, details = await failure(served.call("Now")(b"x" * 1_000_000, timeout=5, compression=compression))
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "1000" in details
        assert await served.call("Now")(b"x" * 1_000) == b"x" * 1_000
        await served.settled()


async def test_statuses_reasons_and_trailers_arrive() -> None:
    async with serving() as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.call("Failing")(b"foreseen")
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "nothing\nthere: 100 %")
        assert dict(caught.value.trailing_metadata())["hint"] == "elsewhere"
        for method in ("Failing", "Breaking"):
            code, details = await failure(served.call(method)(b""))
            assert code is grpc.StatusCode.INTERNAL
            assert "foresaw" not in details
        code, _ = await failure(served.channel.unary_unary("/test.Echo/Nothing")(b""))
        assert code is grpc.StatusCode.UNIMPLEMENTED
        await served.settled()


async def test_a_refusal_says_why_and_when_to_come_back() -> None:
    async with serving() as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.call("Now")(b"x" * 100_000, metadata=(("refuse-me", "1"),))
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, BUSY.reason)
        assert dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"] == "50"
        assert served.echo.cohorts == []
        assert await served.call("Now")(b"still", timeout=5) == b"still"


async def test_metadata_arrives_in_text_and_in_base64() -> None:
    async with serving() as served:
        await served.call("Now")(b"", metadata=(("name", "a"), ("name", "b"), ("blob-bin", b"\x00\xff")))
        assert served.echo.metadata["name"] == "a,b"
        assert served.echo.metadata["blob-bin"].rstrip("=") == "AP8"


async def test_a_deadline_ends_the_work_and_the_call() -> None:
    async with serving() as served:
        code, _ = await failure(served.call("Slowly")(b"", timeout=0.05))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        await served.settled()
        assert served.gate.ended_as[0] in (Status.DEADLINE_EXCEEDED, Status.CANCELLED)
        assert served.echo.cancelled.is_set()


async def test_a_cancelled_call_stops_its_handler_and_frees_its_place() -> None:
    async with serving() as served:
        call = served.call("Slowly")(b"")
        async with asyncio.timeout(5):
            await served.echo.started.wait()
            call.cancel()
            await served.echo.cancelled.wait()
        await served.settled()
        assert served.gate.ended_as == [Status.CANCELLED]


async def test_a_client_that_goes_away_stops_its_handlers() -> None:
    async with serving() as served:
        call = served.call("Slowly")(b"")
        async with asyncio.timeout(5):
            await served.echo.started.wait()
            await served.channel.close()
            await served.echo.cancelled.wait()
        await served.settled()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_a_stream_answers_each_message_and_ends_with_its_status() -> None:
    async with serving() as served:
        talk = served.channel.stream_stream("/test.Echo/Talk")
        said = [b"a" * 100_000, b"", b"b"]
        assert [m async for m in talk(iter(said))] == [m * 2 for m in said]
        # Written by hand: a client that is still sending when its call ends may tell of that instead of the status.
        failing = talk()
        await failing.write(b"a")
        assert await failing.read() == b"aa"
        await failing.write(b"fail")
        assert (await failure(failing.read()))[0] is grpc.StatusCode.ABORTED


async def test_a_stream_that_its_caller_leaves_is_closed() -> None:
    async with serving() as served:
        talk = served.channel.stream_stream("/test.Echo/Talk")()
        await talk.write(b"a")
        assert await talk.read() == b"aa"
        talk.cancel()
        async with asyncio.timeout(5):
            await served.echo.cancelled.wait()


async def test_a_stream_of_more_than_its_window_goes_through() -> None:
    async with serving(Limits(message_bytes=70_000)) as served:
        said = [bytes([n]) * 60_000 for n in range(50)]
        talk = served.channel.stream_stream("/test.Echo/Talk")
        assert [m async for m in talk(iter(said))] == [m * 2 for m in said]


async def test_a_client_that_reads_no_answers_costs_the_others_nothing_and_is_cut_off() -> None:
    async with serving(Limits(stalled_s=1.0)) as served:
        wire = Wire()
        loop = asyncio.get_running_loop()
        size = 16_000
        windows = settings({Setting.INITIAL_WINDOW_SIZE: 2**31 - 1}) + window_update(0, 2**31 - 1 - 65_535)
        calls = (wire.call(2 * n + 1, b"x" * size, path="/test.Echo/Now", user_agent="deaf") for n in range(CALLS))
        with socket.socket() as deaf:
            deaf.setblocking(False)
            await loop.sock_connect(deaf, ("127.0.0.1", served.port))
            sending = asyncio.create_task(loop.sock_sendall(deaf, PREFACE + windows + b"".join(calls)))
            for _ in range(50):
                assert await served.call("Now")(b"hello", timeout=5) == b"hello"
            # It is not read from any more, so it cannot get rid of all its calls; then it is closed.
            with pytest.raises(OSError, match=r"reset|Broken pipe"):
                async with asyncio.timeout(10):
                    await sending
        assert 50 < served.gate.asked < 50 + CALLS
        await served.settled()
        assert await served.call("Now")(b"hello", timeout=5) == b"hello"


async def test_a_drain_under_load_fails_no_call() -> None:
    """Callers go on through a second server on the same address, as in a rolling restart."""
    async with serving() as served:
        answered, stop = [0], asyncio.Event()
        method = served.call("AnyOrder")

        async def call_on(number: int) -> None:
            while not stop.is_set():
                message = f"{number}".encode()
                assert await method(message, wait_for_ready=True, timeout=5) == message
                answered[0] += 1

        callers = [asyncio.create_task(call_on(number)) for number in range(50)]
        async with asyncio.timeout(20):
            while answered[0] < 500:
                await asyncio.sleep(0.01)
            await served.server.drain(5.0)
            assert served.server.connections == 0
            before = answered[0]
            second = GrpcServer({"/test.Echo/AnyOrder": served.echo.any_order})
            await second.listen(f"127.0.0.1:{served.port}")
            while answered[0] < before + 500:
                await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*callers)
        await second.drain(1.0)
        await served.settled()
        assert set(served.gate.ended_as) == {Status.OK}


async def test_a_connection_that_comes_during_a_drain_is_asked_to_go_as_well() -> None:
    async with serving() as served:
        call = served.call("Slowly")(b"done")
        await served.echo.started.wait()
        draining = asyncio.create_task(served.server.drain(5.0))
        await asyncio.sleep(0)
        near, far = socket.socketpair()
        with near:
            near.setblocking(False)
            served.server.adopt(far)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(near, GREETING)
            heard = b""
            async with asyncio.timeout(5):
                while goaway(2**31 - 1, ErrorCode.NO_ERROR) not in heard:
                    heard += await loop.sock_recv(near, 1_000)
        await draining
        assert await call == b"done"


async def test_a_drain_waits_for_calls_under_way_and_no_longer_than_said() -> None:
    async with serving() as served:
        call = served.call("Slowly")(b"done")
        await served.echo.started.wait()
        await served.server.drain(5.0)
        assert await call == b"done"
    async with serving() as served:
        call = served.call("Slowly")(b"never")
        await served.echo.started.wait()
        await served.server.drain(0.05)
        assert (await failure(call))[0] is grpc.StatusCode.UNAVAILABLE
        await served.settled()
        assert served.gate.ended_as == [Status.CANCELLED]
