"""Feast's entity keys (version 3), encoded fast: everything but the values is laid out once."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from flywheel.kernel.stored import JoinKey, KeyType

VALUE_TYPES = {KeyType.STRING: 2, KeyType.INT32: 3, KeyType.INT64: 4}
"""As Feast numbers them."""
NUMBERS = {KeyType.INT32: struct.Struct("<i"), KeyType.INT64: struct.Struct("<q")}
"""How it lays out those that are numbers."""

_SIZE = struct.Struct("<I")
_TYPE_AND_SIZE = struct.Struct("<II")
_TEXT = VALUE_TYPES[KeyType.STRING]


class EntityKeys:
    """The keys of one kind of entity in one project.

    >>> EntityKeys("p", [JoinKey("c")]).encode([["x"]])[0].hex()
    '0100000002000000010000006302000000010000007870'
    """

    def __init__(self, project: str, join_keys: Sequence[JoinKey]) -> None:
        # Feast puts the keys into the order of their names.
        self._order = sorted(range(len(join_keys)), key=lambda place: join_keys[place].name)
        ordered = [join_keys[place] for place in self._order]
        names = [_encode_text(key.name) for key in ordered]
        self._start = b"".join((_SIZE.pack(len(names)), *names))
        self._end = project.encode()
        self._encoders = [_encoder(key) for key in ordered]

    def encode(self, columns: Sequence[Sequence[str | int]]) -> list[bytes]:
        """The Redis keys of entities, from a column of values for each join key, in the order of the keys.

        Raises ValueError for a number beyond its type, text that is no Unicode, or columns that are not one a key.
        """
        start, end = self._start, self._end
        if len(columns) != len(self._encoders):
            raise ValueError(f"{len(columns)} columns of values for {len(self._encoders)} join keys")
        if len(columns) == 1:
            encode = self._encoders[0]
            return [start + encode(value) + end for value in columns[0]]
        encoded = map(map, self._encoders, [columns[place] for place in self._order])
        return [b"".join((start, *parts, end)) for parts in zip(*encoded, strict=True)]


def _encoder(key: JoinKey) -> Callable[..., bytes]:
    if key.type is KeyType.STRING:
        return _encode_text
    number = NUMBERS[key.type]
    head = _TYPE_AND_SIZE.pack(VALUE_TYPES[key.type], number.size)

    def encode_number(value: int) -> bytes:
        try:
            return head + number.pack(value)
        except struct.error as error:
            raise ValueError(f"{key.name} is no {key.type.value}: {value}") from error

    return encode_number


def _encode_text(value: str) -> bytes:
    text = value.encode()
    return _TYPE_AND_SIZE.pack(_TEXT, len(text)) + text
