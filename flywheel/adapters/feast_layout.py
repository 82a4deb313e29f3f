"""How Feast lays out online values in Redis, encoded by hand so that serving needs no Feast.

A hash for each entity: its key is the serialized entity key (version 3) followed by the project, its fields are
murmur3 of `view:feature` in little endian and `_ts:view`, its values serialized ValueProto and Timestamp messages.
"""

from __future__ import annotations

import struct

import mmh3

from flywheel.kernel.varints import encode_varint, read_varint

_BYTES_HEAD = b"\x0a"
_SECONDS_HEAD = b"\x08"
_NANOS_HEAD = b"\x10"


def state_feature(entity: str) -> str:
    """Name of the feature that holds an entity's packed state, of type bytes.

    Different for each entity, because Feast refuses two features of one name in one answer.
    """
    return f"{entity}_state"


def edge_feature(entity: str) -> str:
    """Name of the feature that holds an entity's packed edge, of type bytes."""
    return f"{entity}_edge"


def value_field(view: str, feature: str) -> bytes:
    """The hash field of one feature of one view."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def time_field(view: str) -> bytes:
    """The hash field of the view's event time."""
    return f"_ts:{view}".encode()


def encode_value(raw: bytes) -> bytes:
    """A ValueProto that holds these bytes."""
    return _BYTES_HEAD + encode_varint(len(raw)) + raw


def decode_value(message: bytes) -> bytes:
    """The bytes inside a ValueProto; a message that is none is handed on as it is, for its reader to refuse.

    >>> decode_value(encode_value(b"state"))
    b'state'
    """
    if not message.startswith(_BYTES_HEAD):
        return message
    length, start = read_varint(message, 1) or (-1, 0)
    return message[start:] if len(message) - start == length else message


def encode_time(time_us: int) -> bytes:
    """A Timestamp message of that many microseconds since the Unix epoch (not before it)."""
    seconds, rest_us = divmod(time_us, 1_000_000)
    message = _SECONDS_HEAD + encode_varint(seconds) if seconds else b""
    return message + (_NANOS_HEAD + encode_varint(rest_us * 1000) if rest_us else b"")
