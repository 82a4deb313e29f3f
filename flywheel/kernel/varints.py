"""Protobuf's variable-length integers: seven bits a byte, the lowest first, the top bit saying that more follow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 10
"""A 64-bit integer takes no more, and a negative one takes them all."""

_MORE = 0x80
_SEVEN_BITS = 0x7F
_SHIFTS = np.arange(0, 7 * MAX_BYTES, 7, dtype=np.uint64)
_POSITIONS = np.arange(MAX_BYTES)
_64_BITS = 2**64 - 1


def encode_varint(number: int) -> bytes:
    """The bytes of a 64-bit integer; a negative one as its two's complement.

    >>> encode_varint(300).hex(), len(encode_varint(-1))
    ('ac02', 10)
    """
    number &= _64_BITS
    groups = bytearray()
    while number > _SEVEN_BITS:
        groups.append(number & _SEVEN_BITS | _MORE)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def read_varint(message: bytes, start: int) -> tuple[int, int] | None:
    """The unsigned integer that begins at `start`, and where it ends; None when none does."""
    number = shift = 0
    for end, byte in enumerate(message[start : start + MAX_BYTES], start + 1):
        if byte < _MORE:
            number |= byte << shift
            return (number, end) if number <= _64_BITS else None
        number |= (byte & _SEVEN_BITS) << shift
        shift += 7
    return None


def read_varints(rows: NDArray[np.uint8], lengths: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """The unsigned integer in each row of bytes, and whether it takes up exactly its length.

    `rows`: shape (n, bytes), at most ten bytes, zeros after the row's length. `lengths`: shape (n,). Not more than
    zero bytes long is the integer zero.
    """
    width = rows.shape[1]
    followed = _POSITIONS[:width] < (lengths - 1)[:, None]
    sound = ((rows >= _MORE) == followed).all(axis=1)
    if width == MAX_BYTES:
        sound &= rows[:, -1] <= 1
    parts = (rows & _SEVEN_BITS).astype(np.uint64) << _SHIFTS[:width]
    return np.bitwise_or.reduce(parts, axis=1), sound
