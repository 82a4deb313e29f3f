"""How a call ends: gRPC's statuses, a refusal made ready beforehand, and the error that handlers raise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from urllib.parse import quote

from flywheel.adapters.grpc_server.blocks import trailers_only

_READABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class Status(IntEnum):
    """gRPC status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


def percent_encoded(reason: str) -> str:
    """The text as a `grpc-message` header carries it."""
    return quote(reason, safe=_READABLE)


@dataclass(frozen=True)
class Refusal:
    """Why a call is not admitted. Keep one for each reason: its header block is made once."""

    status: Status
    reason: str
    trailers: Mapping[str, str] = field(default_factory=dict)
    stands: bool = False
    """Every call like the one that is refused would be refused as well, until another ends."""

    @cached_property
    def block(self) -> bytes:
        """The header block of the answer, which is the whole answer."""
        return trailers_only(self.status, percent_encoded(self.reason), self.trailers)


class CallFailed(Exception):
    """Raised by a handler that answers with a status instead of a message."""

    def __init__(self, status: Status, reason: str, trailers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status.name}: {reason}")
        self.status = status
        self.reason = reason
        self.trailers = trailers or {}
