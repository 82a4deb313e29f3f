"""How Feast lays out online values in Redis, encoded by hand so that serving needs no Feast.

A hash for each entity: its key is the serialized entity key (version 3) followed by the project, its fields are
murmur3 of `view:feature` in little endian and `_ts:view`, its values serialized ValueProto and Timestamp messages.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import mmh3

_STRING = 2
_BYTES_VAL = 0x0A
_SECONDS = 0x08
_NANOS = 0x10


def entity_key(project: str, join_keys: Sequence[str], values: Sequence[str]) -> bytes:
    """The Redis key of one entity. Feast puts the keys into the order of their names.

    >>> entity_key("p", ["c"], ["x"]).hex()
    '0100000002000000010000006302000000010000007870'
    """
    pairs = sorted(zip(join_keys, values, strict=True))
    names = [_text(name) for name, _ in pairs]
    return b"".join((struct.pack("<I", len(pairs)), *names, *(_text(value) for _, value in pairs), project.encode()))


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<II", _STRING, len(raw)) + raw


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
    return bytes((_BYTES_VAL,)) + _varint(len(raw)) + raw


def decode_value(message: bytes) -> bytes:
    """The bytes inside a ValueProto; a message that is none is handed on as it is, for its reader to refuse.

    >>> decode_value(encode_value(b"state"))
    b'state'
    """
    if not message or message[0] != _BYTES_VAL:
        return message
    length = shift = 0
    for position in range(1, len(message)):
        byte = message[position]
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            raw = message[position + 1 :]
            return raw if len(raw) == length else message
        shift += 7
    return message


def encode_time(time_us: int) -> bytes:
    """A Timestamp message of that many microseconds since the Unix epoch (not before it)."""
    seconds, rest_us = divmod(time_us, 1_000_000)
    message = bytes((_SECONDS,)) + _varint(seconds) if seconds else b""
    return message + (bytes((_NANOS,)) + _varint(rest_us * 1000) if rest_us else b"")


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)
