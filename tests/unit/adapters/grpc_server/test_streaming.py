"""What streaming calls may take from the port: no gate admits them."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from flywheel.adapters.grpc_server.calls import StreamCall
from flywheel.adapters.grpc_server.frames import END_STREAM, ErrorCode, Kind, frame, reset
from flywheel.adapters.grpc_server.health import HEALTH, Health
from flywheel.adapters.grpc_server.limits import Limits
from flywheel.adapters.grpc_server.messages import prefixed
from flywheel.adapters.grpc_server.status import Status
from tests.grpc_wire import Wire, greeted, window

PATH = "/test.Echo/Stream"
WATCH = f"/{HEALTH}/Watch"


class Reader:
    """Asks for messages as often as it is told."""

    def __init__(self) -> None:
        self.asked = asyncio.Semaphore(0)
        self.sizes: list[int] = []
        self.long = b""

    async def __call__(self, messages: AsyncGenerator[bytes, None], _: StreamCall) -> AsyncIterator[bytes]:
        await self.asked.acquire()
        async for message in messages:
            self.sizes.append(len(message))
            yield self.long
            await self.asked.acquire()


async def settle(wire: Wire) -> None:
    for _ in range(5):
        await asyncio.sleep(0)
        wire.turn()


def packed(size: int) -> bytes:
    body = gzip.compress(bytes(size))
    return b"\x01" + len(body).to_bytes(4, "big") + body


async def test_messages_are_kept_as_they_came_until_they_are_asked_for() -> None:
    reader = Reader()
    wire = greeted(streaming={PATH: reader})
    body = packed(100_000)
    wire.say(wire.headers(1, path=PATH, grpc_encoding="gzip") + frame(Kind.DATA, 0, 1, body * 3))
    await settle(wire)
    assert wire.connection.kept_bytes == 3 * len(body)
    reader.asked.release()
    await settle(wire)
    assert (reader.sizes, wire.connection.kept_bytes) == ([100_000], 2 * len(body))
    wire.say(reset(1, ErrorCode.CANCEL))
    assert wire.connection.kept_bytes == 0


async def test_messages_that_wait_are_bounded_over_all_calls() -> None:
    wire = greeted(streaming={PATH: Reader()}, limits=Limits(kept_bytes=20_000))
    wire.say(b"".join(wire.headers(n, path=PATH) + frame(Kind.DATA, 0, n, bytes(8_000)) for n in (1, 3, 5)))
    await settle(wire)
    assert {stream: answer.status for stream, answer in wire.answers().items()} == {
        1: None,
        3: None,
        5: Status.RESOURCE_EXHAUSTED,
    }
    assert wire.connection.kept_bytes == 16_000
    wire.connection.connection_lost(None)
    assert wire.connection.kept_bytes == 0


async def test_who_watches_is_heard_once() -> None:
    wire = greeted(streaming=Health([]).streaming())
    wire.say(wire.headers(1, path=WATCH) + frame(Kind.DATA, 0, 1, prefixed(b"")))
    await settle(wire)
    for _ in range(3):
        wire.say(frame(Kind.DATA, 0, 1, bytes(16_000)))
    await settle(wire)
    assert wire.connection.kept_bytes == 0
    assert wire.answers()[1].data
    assert wire.answers()[1].reset is None
    wire.connection.connection_lost(None)


async def test_streaming_calls_of_a_connection_are_few() -> None:
    wire = greeted(streaming={PATH: Reader()}, limits=Limits(streaming_calls=2))
    wire.say(b"".join(wire.headers(n, path=PATH) for n in (1, 3, 5)) + wire.call(7))
    await settle(wire)
    statuses = {stream: answer.status for stream, answer in wire.answers().items()}
    assert statuses == {1: None, 3: None, 5: Status.RESOURCE_EXHAUSTED, 7: 0}
    wire.say(reset(1, ErrorCode.CANCEL) + wire.headers(9, path=PATH) + wire.headers(11, path=PATH))
    await settle(wire)
    assert wire.answers()[9].status is None
    assert wire.answers()[11].status == Status.RESOURCE_EXHAUSTED
    wire.connection.connection_lost(None)


@pytest.mark.parametrize("body", [prefixed(b"abc")[:-1], b"\x01\x00\x00\x00\x00", b"\0"])
async def test_a_message_that_is_none_ends_the_call(body: bytes) -> None:
    reader = Reader()
    wire = greeted(streaming={PATH: reader})
    wire.say(wire.headers(1, path=PATH) + frame(Kind.DATA, END_STREAM, 1, body))
    reader.asked.release()
    await settle(wire)
    assert wire.answers()[1].status == Status.INTERNAL
    assert (wire.connection.kept_bytes, len(wire.connection.streams)) == (0, 0)


async def test_answers_are_not_made_while_the_client_leaves_them_unread() -> None:
    reader = Reader()
    reader.long = bytes(1_000)
    wire = greeted(streaming={PATH: reader})
    wire.say(window(2**31 - 1) + wire.headers(1, path=PATH) + frame(Kind.DATA, 0, 1, prefixed(b"") * 10))
    wire.connection.pause_writing()
    for _ in range(10):
        reader.asked.release()
    await settle(wire)
    assert reader.sizes == [0]
    wire.connection.resume_writing()
    for _ in range(10):
        await settle(wire)
    assert reader.sizes == [0] * 10
    wire.connection.connection_lost(None)
