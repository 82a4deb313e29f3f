"""Event times as Feast stores them: serialized Timestamp messages to microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.varints import read_varint, read_varints

NO_TIME = np.iinfo(np.int64).min
"""Stands where there is no event time."""

_SECONDS = 0x08
_NANOS = 0x10
_NANOS_PER_S = 1_000_000_000
_MAX_S = 253_402_300_800
"""The year 10000, at which a Timestamp ends."""

# From 1978 until 3058 seconds take five bytes; nanoseconds, where there are any, up to five more.
_SECONDS_ONLY_BYTES = 6
_MAX_BYTES = 12
_FEW = 6
"""Up to so many times one after another are faster than arrays."""


# What is loaded together has one time.
@lru_cache(maxsize=1_024)
def decode_time(message: bytes | None) -> int:
    """Microseconds since the Unix epoch; NO_TIME of a message that is absent or no Timestamp.

    >>> decode_time(bytes.fromhex("080110e807"))
    1000001
    """
    if message is None:
        return NO_TIME
    seconds, after_seconds = _field(message, 0, _SECONDS)
    nanos, after_nanos = _field(message, after_seconds, _NANOS)
    if after_nanos != len(message) or nanos >= _NANOS_PER_S or seconds >= _MAX_S:
        return NO_TIME
    return seconds * 1_000_000 + nanos // 1000


def decode_times(messages: Sequence[bytes | None]) -> NDArray[np.int64]:
    """`decode_time` of each, shape (n,)."""
    if len(messages) > _FEW:
        times_us, usual = _usual_times(messages)
        for at in np.flatnonzero(~usual).tolist():
            times_us[at] = decode_time(messages[at])
        return times_us
    return np.array([decode_time(message) for message in messages], np.int64)


def decode_time_column(messages: NDArray[np.uint8]) -> NDArray[np.int64]:
    """`decode_time` of each row of bytes, shape (n,)."""
    if np.array_equal(messages[1:], messages[:-1]):
        return np.full(len(messages), decode_time(messages[0].tobytes()))
    return decode_times([message.tobytes() for message in messages])


def _usual_times(messages: Sequence[bytes | None]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Times, and which of the messages are of the usual make, so that their times are right."""
    texts = [message or b"" for message in messages]
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    cut = texts if lengths.max() <= _MAX_BYTES else [text[:_MAX_BYTES] for text in texts]
    padded = b"".join(map(bytes.ljust, cut, repeat(_MAX_BYTES), repeat(b"\0")))
    rows = np.frombuffer(padded, np.uint8).reshape(-1, _MAX_BYTES)
    seconds, sound = read_varints(rows[:, 1:_SECONDS_ONLY_BYTES], np.full(len(texts), _SECONDS_ONLY_BYTES - 1))
    nanos, nanos_sound = read_varints(rows[:, _SECONDS_ONLY_BYTES + 1 :], lengths - _SECONDS_ONLY_BYTES - 1)
    whole_seconds = lengths == _SECONDS_ONLY_BYTES
    usual = sound & nanos_sound & (rows[:, 0] == _SECONDS) & (nanos < _NANOS_PER_S) & (lengths <= _MAX_BYTES)
    usual &= whole_seconds | ((rows[:, _SECONDS_ONLY_BYTES] == _NANOS) & (lengths > _SECONDS_ONLY_BYTES + 1))
    return seconds.astype(np.int64) * 1_000_000 + nanos.astype(np.int64) // 1000, usual


def _field(message: bytes, start: int, tag: int) -> tuple[int, int]:
    """The field's integer and where it ends; zero and `start` where there is no such field."""
    if start >= len(message) or message[start] != tag:
        return 0, start
    return read_varint(message, start + 1) or (0, start)
