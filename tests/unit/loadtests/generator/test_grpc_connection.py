"""The generator's side of HTTP/2, frame by frame."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable, Iterator

import pytest
from hpack import Decoder, Encoder

from loadtests.generator.grpc_connection import GrpcConnection, Message

_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

Frame = tuple[int, int, int, bytes]


class _Transport:
    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def frames(self) -> list[Frame]:
        """What was written since the last call."""
        data, self.written = self.written.removeprefix(_PREFACE), b""
        found = []
        while data:
            head, flags, stream = struct.unpack_from(">IBI", data)
            found.append((head & 0xFF, flags, stream, data[9 : 9 + (head >> 8)]))
            data = data[9 + (head >> 8) :]
        return found


class _Owner:
    def __init__(self) -> None:
        self.answers: list[tuple[int, int, bytes]] = []
        self.back: list[int] = []
        self.left = 0

    def answered(self, number: int, status: int, message: bytes, now_s: float) -> None:
        del now_s
        self.answers.append((number, status, message))

    def returned(self, numbers: Iterable[int]) -> None:
        self.back += numbers

    def heard(self) -> None:
        pass

    def gone(self, connection: GrpcConnection) -> None:
        del connection
        self.left += 1


class _Server:
    """The other end, with its own tables."""

    def __init__(self, messages: list[bytes]) -> None:
        self.owner = _Owner()
        self.transport = _Transport()
        headers = [(":method", "POST"), (":path", "/a.B/C"), ("grpc-timeout", "1S")]
        self.client = GrpcConnection(self.owner, headers, lambda number: Message(messages[number % len(messages)]))
        self.client.connection_made(self.transport)  # type: ignore[arg-type]
        self.encoder, self.decoder = Encoder(), Decoder()

    def says(self, *frames: Frame, chunk: int = 0) -> None:
        data = b"".join(struct.pack(">IBI", len(p) << 8 | kind, flags, s) + p for kind, flags, s, p in frames)
        step = chunk or len(data)
        for at in range(0, len(data), step):
            self.client.data_received(data[at : at + step])

    def answers(self, stream: int, message: bytes, status: int = 0) -> list[Frame]:
        head = self.encoder.encode([(":status", "200"), ("content-type", "application/grpc")])
        tail = self.encoder.encode([("grpc-status", str(status))])
        return [(_HEADERS, 4, stream, head), (_DATA, 0, stream, Message(message)), (_HEADERS, 5, stream, tail)]


@pytest.fixture
def server() -> Iterator[_Server]:
    asyncio.set_event_loop(loop := asyncio.new_event_loop())
    try:
        yield loop.run_until_complete(_made())
    finally:
        loop.close()
        asyncio.set_event_loop(None)


async def _made() -> _Server:
    made = _Server([b"first", b"second"])
    made.says((_SETTINGS, 0, 0, b""))
    made.transport.frames()
    return made


def test_every_request_has_the_same_headers_whichever_block_carries_them(server: _Server) -> None:
    server.client.send([0, 1, 2])
    frames = server.transport.frames()
    assert [(kind, flags, stream) for kind, flags, stream, _ in frames] == [
        (kind, flags, stream) for stream in (1, 3, 5) for kind, flags in ((_HEADERS, 4), (_DATA, 1))
    ]
    blocks = [payload for kind, _, _, payload in frames if kind == _HEADERS]
    assert len({str(server.decoder.decode(block)) for block in blocks}) == 1
    assert len(blocks[1]) < len(blocks[0])
    bodies = [payload[5:] for kind, _, _, payload in frames if kind == _DATA]
    assert bodies == [b"first", b"second", b"first"]


@pytest.mark.parametrize("chunk", [0, 1, 7])
def test_answers_are_put_together_however_they_are_cut(server: _Server, chunk: int) -> None:
    server.client.send([0, 1])
    server.says(*server.answers(3, b"to the second"), *server.answers(1, b"to the first"), chunk=chunk)
    assert server.owner.answers == [(1, 0, b"to the second"), (0, 0, b"to the first")]


def test_a_status_is_read_anew_when_the_table_has_moved(server: _Server) -> None:
    for number, status in enumerate([0, 8, 0, 8, 13]):
        server.client.send([number])
        server.says(*server.answers(2 * number + 1, b"", status))
    assert [status for _, status, _ in server.owner.answers] == [0, 8, 0, 8, 13]


def test_after_goodbye_what_the_server_has_not_begun_comes_back_and_nothing_is_sent(server: _Server) -> None:
    server.client.send([0, 1])
    server.says((_GOAWAY, 0, 0, struct.pack(">II", 1, 0)))
    assert server.owner.back == [1]
    assert server.owner.left == 1
    assert not server.transport.closed
    server.says(*server.answers(1, b"done"))
    assert server.owner.answers == [(0, 0, b"done")]
    assert server.transport.closed


def test_calls_beyond_the_allowed_number_wait_and_follow(server: _Server) -> None:
    server.says((_SETTINGS, 0, 0, struct.pack(">HI", 3, 1)))
    server.client.send([0, 1])
    assert server.client.under_way == 1
    server.transport.frames()
    server.says(*server.answers(1, b""))
    assert [stream for kind, _, stream, _ in server.transport.frames() if kind == _DATA] == [3]


def test_no_more_is_sent_than_the_window_allows(server: _Server) -> None:
    each = len(Message(b"first"))
    server.client.send([0] * (65_535 // each + 5))
    sent = sum(kind == _DATA for kind, _, _, _ in server.transport.frames())
    assert sent == 65_535 // each
    server.says((_WINDOW, 0, 0, (each * 2).to_bytes(4, "big")))
    assert sum(kind == _DATA for kind, _, _, _ in server.transport.frames()) == 2


def test_a_refused_stream_comes_back_another_reset_has_failed(server: _Server) -> None:
    server.client.send([0, 1])
    server.says((_RST, 0, 1, (7).to_bytes(4, "big")), (_RST, 0, 3, (8).to_bytes(4, "big")))
    assert server.owner.back == [0]
    assert server.owner.answers == [(1, 14, b"")]


def test_a_lost_connection_fails_what_was_under_way(server: _Server) -> None:
    server.client.send([0, 1])
    server.client.connection_lost(None)
    assert [(number, status) for number, status, _ in server.owner.answers] == [(0, 14), (1, 14)]
    assert server.owner.left == 1


def test_a_ping_is_answered_with_what_it_said(server: _Server) -> None:
    server.says((_PING, 0, 0, b"12345678"))
    assert server.transport.frames() == [(_PING, 1, 0, b"12345678")]
