"""Reads Feast's Redis keys back: which entity a key is about."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from flywheel.adapters.feast_keys import NUMBERS, VALUE_TYPES
from flywheel.kernel.stored import KeyType

_TYPES = {number: key_type for key_type, number in VALUE_TYPES.items()}


def join_keys(raw: bytes, project: str) -> dict[str, str] | None:
    """Values by join key, of entities with several keys too; None when the key is not one of the project's entities.

    >>> from flywheel.adapters.feast_keys import EntityKeys
    >>> from flywheel.kernel.stored import JoinKey
    >>> (key,) = EntityKeys("fraud", [JoinKey("card_id")]).encode([["c1"]])
    >>> join_keys(key, "fraud")
    {'card_id': 'c1'}
    >>> join_keys(b"fraud:progress", "fraud") is None
    True
    """
    try:
        return _parsed(raw, project.encode())
    except (struct.error, UnicodeDecodeError, ValueError):
        return None


def _parsed(raw: bytes, project: bytes) -> dict[str, str] | None:
    (number,) = struct.unpack_from("<I", raw)
    if not 0 < number <= len(raw):
        return None
    parts = _parts(raw, 4)
    names = [_text(*next(parts)[:2]) for _ in range(number)]
    values, end = [], 4
    for _ in range(number):
        kind, value, end = next(parts)
        values.append(_text(kind, value))
    return dict(zip(names, values, strict=True)) if raw[end:] == project else None


def _parts(raw: bytes, start: int) -> Iterator[tuple[int, bytes, int]]:
    """Type, bytes and end of each part in turn."""
    while True:
        kind, length = struct.unpack_from("<II", raw, start)
        end = start + 8 + length
        if end > len(raw):
            raise ValueError("a part is longer than the key")
        yield kind, raw[start + 8 : end], end
        start = end


def _text(kind: int, value: bytes) -> str:
    key_type = _TYPES.get(kind)
    if key_type is KeyType.STRING:
        return value.decode()
    return value.hex() if key_type is None else str(NUMBERS[key_type].unpack(value)[0])
