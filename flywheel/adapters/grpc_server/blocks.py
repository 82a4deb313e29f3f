"""Header blocks of answers. No dynamic table is used, so a block is the same bytes on any connection."""

from __future__ import annotations

from collections.abc import Mapping

from hpack.hpack import encode_integer

_STATUS_200 = b"\x88"
_STATUS_NAME = 8
_CONTENT_TYPE_NAME = 31


def literal(name: str, value: str) -> bytes:
    """One field as a literal that is not indexed."""
    return b"\x00" + _text(name) + _text(value)


def _text(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    return bytes(encode_integer(len(raw), 7)) + raw


def _named(index: int, value: str) -> bytes:
    return bytes(encode_integer(index, 4)) + _text(value)


_CONTENT_TYPE = _named(_CONTENT_TYPE_NAME, "application/grpc")

INITIAL = _STATUS_200 + _CONTENT_TYPE
"""What comes before the first message of an answer."""

OK_TRAILERS = literal("grpc-status", "0")
"""What follows the last message of an answer that succeeded."""


def trailers(status: int, message: str, extra: Mapping[str, str]) -> bytes:
    """The block after the messages; the message is percent-encoded already."""
    fields = [literal("grpc-status", str(int(status)))]
    if message:
        fields.append(literal("grpc-message", message))
    fields += [literal(name.lower(), value) for name, value in extra.items()]
    return b"".join(fields)


def trailers_only(status: int, message: str, extra: Mapping[str, str]) -> bytes:
    """The block of an answer without any message."""
    return INITIAL + trailers(status, message, extra)


def http_answer(status: int) -> bytes:
    """The block for a request that is not gRPC at all."""
    return _named(_STATUS_NAME, str(status))
