"""A client of the gRPC port made of bytes: it says what it likes, and reads what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, cast

from hpack import Decoder, Encoder

from flywheel.adapters.grpc_server.calls import Call, PortGate, Streaming, Unary
from flywheel.adapters.grpc_server.connection import Connection, Shared
from flywheel.adapters.grpc_server.frames import (
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEAD_BYTES,
    PREFACE,
    ErrorCode,
    Kind,
    Setting,
    frame,
    settings,
)
from flywheel.adapters.grpc_server.limits import Limits
from flywheel.adapters.grpc_server.messages import PREFIX_BYTES, prefixed
from flywheel.adapters.grpc_server.status import Refusal, Status
from flywheel.adapters.grpc_server.turns import Turn

PATH = "/test.Echo/Echo"
GREETING = PREFACE + settings({})


class RecordingGate:
    """Admits whom `refused` does not name, and writes down how calls ended."""

    def __init__(self, refused: Refusal | None = None) -> None:
        self.refused = refused
        self.admitted = 0
        self.looked = 0
        self.repeats = 0
        self.ended_as: list[Status] = []

    def look(self, path: str, metadata: Mapping[str, str], timeout_s: float) -> Refusal | None:  # noqa: ARG002
        """As told."""
        self.looked += 1
        return self.refused

    def repeated(self, path: str, metadata: Mapping[str, str], refusal: Refusal, count: int) -> Iterator[Refusal]:  # noqa: ARG002
        """As told, so many times."""
        self.repeats += count
        return repeat(refusal, count)

    def begin(self, path: str, metadata: Mapping[str, str], timeout_s: float) -> Refusal | None:  # noqa: ARG002
        """As told, and told of what changed since."""
        if self.refused is None:
            self.admitted += 1
        return self.refused

    def ended(self, path: str, metadata: Mapping[str, str], seconds: float, outcome: Status) -> None:  # noqa: ARG002
        """Writes it down."""
        self.ended_as.append(outcome)


class Desk:
    """Keeps calls until the test answers them."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.cohorts: list[int] = []

    def __call__(self, calls: Sequence[Call]) -> None:
        self.calls += calls
        self.cohorts.append(len(calls))


class FakeTransport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.is_closed = False
        self.is_aborted = False
        self.reading: list[str] = []

    def write(self, data: bytes) -> None:
        assert not self.is_closed
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_closed

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading.append("paused")

    def resume_reading(self) -> None:
        self.reading.append("resumed")

    def set_write_buffer_limits(self, high: int) -> None:
        assert high > 0

    def get_extra_info(self, _: str) -> None:
        return None


@dataclass
class Answer:
    """What came back on one stream."""

    headers: list[tuple[str, str]] = field(default_factory=list)
    data: bytes = b""
    is_ended: bool = False
    reset: ErrorCode | None = None

    @property
    def message(self) -> bytes:
        return self.data[PREFIX_BYTES:]

    @property
    def status(self) -> int | None:
        found = dict(self.headers).get("grpc-status")
        return None if found is None else int(found)


class Wire:
    """A connection without a socket. What it has to do later is done by `turn`."""

    def __init__(
        self,
        unary: Mapping[str, Unary] | None = None,
        *,
        streaming: Mapping[str, Streaming] | None = None,
        gate: PortGate | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.later: list[Callable[[], None]] = []
        self.gate = gate or RecordingGate()
        self.limits = limits or Limits()
        turn = Turn(cast(Any, self.later.append), unary or {PATH: echo}, self.limits)
        self.shared = Shared(self.gate, self.limits, turn, streaming or {})
        self.connection = Connection(self.shared)
        self.transport = FakeTransport()
        self.encoder = Encoder()
        self.connection.connection_made(cast(asyncio.Transport, self.transport))

    def feed(self, data: bytes) -> None:
        """The client sends; nothing else happens yet."""
        self.connection.data_received(data)

    def turn(self) -> None:
        """What was put off is done."""
        while self.later:
            self.later.pop(0)()

    def say(self, data: bytes) -> None:
        """The client sends, and the loop goes round."""
        self.feed(data)
        self.turn()

    def headers(self, stream_id: int, *, is_last: bool = False, path: str = PATH, **extra: Any) -> bytes:
        """A HEADERS frame of a call; a name may be written with _ for -."""
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "here"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *((name.replace("_", "-"), value) for name, value in extra.items()),
        ]
        flags = END_HEADERS | (END_STREAM if is_last else 0)
        return frame(Kind.HEADERS, flags, stream_id, self.encoder.encode(fields))

    def call(self, stream_id: int, message: bytes = b"hello", **extra: Any) -> bytes:
        """The frames of a whole call of a short message."""
        return self.headers(stream_id, **extra) + frame(Kind.DATA, END_STREAM, stream_id, prefixed(message))

    def answers(self) -> dict[int, Answer]:
        """What came back so far, by stream."""
        answers: dict[int, Answer] = {}
        decoder = Decoder()
        for kind, flags, stream_id, payload in self.frames():
            answer = answers.setdefault(stream_id, Answer())
            if kind == Kind.HEADERS:
                answer.headers += [(str(name), str(value)) for name, value in decoder.decode(payload)]
            elif kind == Kind.DATA:
                answer.data += payload
            elif kind == Kind.RST_STREAM:
                answer.reset = ErrorCode(int.from_bytes(payload, "big"))
            if kind in (Kind.HEADERS, Kind.DATA) and flags & END_STREAM:
                answer.is_ended = True
        del answers[0]
        return answers

    def frames(self) -> list[tuple[int, int, int, bytes]]:
        """Kind, flags, stream and payload of each frame that came back."""
        found, at, written = [], 0, bytes(self.transport.written)
        while at < len(written):
            high, low, kind, flags, stream_id = HEAD.unpack_from(written, at)
            at += HEAD_BYTES
            size = high << 8 | low
            found.append((kind, flags, stream_id, written[at : at + size]))
            at += size
        return found

    @property
    def goaway(self) -> ErrorCode | None:
        """With which error the connection was given up, if it was."""
        codes = [payload[4:8] for kind, _, _, payload in self.frames() if kind == Kind.GOAWAY]
        return ErrorCode(int.from_bytes(codes[-1], "big")) if codes else None


def echo(calls: Sequence[Call]) -> None:
    """Answers each call with its own message."""
    for call in calls:
        call.reply(call.message)


def window(stream_bytes: int) -> bytes:
    """A SETTINGS frame with that initial window."""
    return settings({Setting.INITIAL_WINDOW_SIZE: stream_bytes})


def greeted(**parts: Any) -> Wire:
    """A client that has greeted a connection made of these parts."""
    wire = Wire(**parts)
    wire.say(GREETING)
    return wire


def ended(wire: Wire) -> list[Status]:
    """How its calls ended, by the gate that writes that down."""
    return cast(RecordingGate, wire.gate).ended_as
