"""Scalars as Feast stores them, read by the thousand: serialized ValueProto messages to arrays of numbers.

A scalar's message is one tag byte, which tells its type, and its payload. A message that is not exactly one of the
declared type is refused: it comes back as NaN and is told apart from one that is absent or null.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import Enum
from itertools import repeat
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.varints import MAX_BYTES, encode_varint, read_varints

Messages = Sequence[bytes | None]
Read = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""Values, and which of them are sound."""

_NULL_VAL = b"\x98\x01\x00"


class ScalarType(Enum):
    """Types of stored features that are numbers. Text is no model input: it is encoded before it is stored."""

    DOUBLE = "double"
    FLOAT = "float"
    INT64 = "int64"
    INT32 = "int32"
    BOOL = "bool"


class Scalars(NamedTuple):
    """Decoded messages in their order, both of shape (n,)."""

    values: NDArray[np.float64]
    """NaN where a message is absent, null or refused."""
    refused: NDArray[np.bool_] | None
    """Where a message is not of the type; None when all are."""


class _Format(Protocol):
    """How the messages of one type look."""

    zero: bytes

    def encode(self, value: float) -> bytes: ...

    def fits(self, length: int) -> bool: ...

    def read(self, messages: Messages) -> Read | None:
        """None unless every message is there and of a length that fits."""


class _Fixed:
    """Messages of one length; `payload` as numpy names it, `largest` the largest value that there is."""

    def __init__(self, tag: int, payload: str, largest: float | None = None) -> None:
        self._tag = tag
        self._record = np.dtype([("tag", "u1"), ("payload", payload)])
        self._lengths = {self._record.itemsize}
        self._largest = largest
        self._packed = struct.Struct("<B" + self._record["payload"].char)
        self.zero = self.encode(0)

    def encode(self, value: float) -> bytes:
        return self._packed.pack(self._tag, value)

    def fits(self, length: int) -> bool:
        return length == self._record.itemsize

    def read(self, messages: Messages) -> Read | None:
        try:
            joined = b"".join(messages)  # type: ignore[arg-type]  # an absent message is told by the TypeError
        except TypeError:
            return None
        if set(map(len, messages)) != self._lengths:  # type: ignore[arg-type]
            return None
        return self._read(np.frombuffer(joined, self._record))

    def read_columns(self, columns: Sequence[NDArray[np.uint8]]) -> Read | None:
        """As `read`, of columns of messages, each shape (rows, bytes); values and soundness are (rows, columns)."""
        if {column.shape[1] for column in columns} != self._lengths:
            return None
        return self._read(np.concatenate(columns, axis=1).view(self._record))

    def _read(self, records: NDArray[np.void]) -> Read:
        values = records["payload"].astype(np.float64)
        sound = records["tag"] == self._tag
        return values, sound if self._largest is None else sound & (values <= self._largest)


class _Varint:
    """Messages of an integer of `bits` bits."""

    def __init__(self, tag: int, bits: int) -> None:
        self._tag = tag
        self._limit = 2 ** (bits - 1)
        self._record = np.dtype([("tag", "u1"), ("payload", "u1", (MAX_BYTES,))])
        self.zero = self.encode(0)

    def encode(self, value: float) -> bytes:
        return bytes((self._tag,)) + encode_varint(int(value))

    def fits(self, length: int) -> bool:
        return 2 <= length <= self._record.itemsize

    def read(self, messages: Messages) -> Read | None:
        try:
            joined = b"".join(map(bytes.ljust, messages, repeat(self._record.itemsize), repeat(b"\0")))  # type: ignore[arg-type]
        except TypeError:
            return None
        lengths = np.fromiter(map(len, messages), np.int64, len(messages))  # type: ignore[arg-type]
        if lengths.min() < 2 or lengths.max() > self._record.itemsize:
            return None
        records = np.frombuffer(joined, self._record)
        unsigned, sound = read_varints(records["payload"], lengths - 1)
        values = unsigned.view(np.int64)
        sound &= (records["tag"] == self._tag) & (values >= -self._limit) & (values <= self._limit - 1)
        return values.astype(np.float64), sound


_FORMATS: dict[ScalarType, _Format] = {
    ScalarType.DOUBLE: _Fixed(0x29, "<f8"),
    ScalarType.FLOAT: _Fixed(0x35, "<f4"),
    ScalarType.INT64: _Varint(0x20, 64),
    ScalarType.INT32: _Varint(0x18, 32),
    ScalarType.BOOL: _Fixed(0x38, "u1", largest=1),
}
_FIXED_ROW = {ScalarType.DOUBLE: "Bd", ScalarType.FLOAT: "Bf"}


class FixedRow:
    """One message after another, of types whose messages have a length of their own: read without any array.

    For a single row that is several times as fast.
    """

    def __init__(self, kinds: Sequence[ScalarType]) -> None:
        self._packed = struct.Struct("<" + "".join(_FIXED_ROW[kind] for kind in kinds))
        self._tags = tuple(_FORMATS[kind].zero[0] for kind in kinds)
        self._lengths = [len(_FORMATS[kind].zero) for kind in kinds]

    @staticmethod
    def of(kinds: Sequence[ScalarType]) -> FixedRow | None:
        """None for types that it does not take."""
        return FixedRow(kinds) if _FIXED_ROW.keys() >= set(kinds) else None

    def read(self, messages: Messages) -> tuple[float, ...] | None:
        """None unless every message is there and sound."""
        try:
            if list(map(len, messages)) != self._lengths:  # type: ignore[arg-type]  # told by the TypeError
                return None
        except TypeError:
            return None
        read = self._packed.unpack(b"".join(messages))  # type: ignore[arg-type]  # none is absent here
        return read[1::2] if read[::2] == self._tags else None


def encode_scalar(kind: ScalarType, value: float | None) -> bytes:
    """The ValueProto of one number; of None, the empty one, which stands for null.

    >>> encode_scalar(ScalarType.INT64, 300).hex()
    '20ac02'
    """
    return b"" if value is None else _FORMATS[kind].encode(value)


def decode_scalars(kind: ScalarType, messages: Messages) -> Scalars:
    """The numbers of at least one message, None being an absent one. Integers beyond 2**53 are rounded to float64.

    >>> decode_scalars(ScalarType.BOOL, [b"8\\x01", None, b"8"])
    Scalars(values=array([ 1., nan, nan]), refused=array([False, False,  True]))
    """
    form = _FORMATS[kind]
    read = form.read(messages)
    if read is not None and np.count_nonzero(read[1]) == len(messages):
        return Scalars(read[0], None)
    return _with_gaps(form, messages)


def decode_columns(kind: ScalarType, columns: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64] | None:
    """The numbers of columns of messages, each of shape (rows, bytes); None unless all are of the type and one length.

    >>> decode_columns(ScalarType.BOOL, [np.array([[56, 1], [56, 0]], np.uint8)])
    array([[1.],
           [0.]])
    """
    form = _FORMATS[kind]
    read = form.read_columns(columns) if isinstance(form, _Fixed) else None
    return None if read is None or not read[1].all() else read[0]


def _with_gaps(form: _Format, messages: Messages) -> Scalars:
    """As `decode_scalars`, where some messages are absent, null or foreign: zeros stand in for those."""
    whole, empty, refused = list(messages), [], []
    for at, message in enumerate(messages):
        if not message or message == _NULL_VAL:
            empty.append(at)
        elif form.fits(len(message)):
            continue
        else:
            refused.append(at)
        whole[at] = form.zero
    read = form.read(whole)
    assert read is not None, "every message fits now"
    values, sound = read
    sound[refused] = False
    unsound = ~sound
    values[unsound] = np.nan
    values[empty] = np.nan
    return Scalars(values, unsound if np.count_nonzero(unsound) else None)
